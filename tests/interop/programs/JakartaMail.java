import jakarta.mail.Session;
import jakarta.mail.Transport;
import jakarta.mail.internet.InternetAddress;
import jakarta.mail.internet.MimeMessage;
import java.io.FileInputStream;
import java.io.InputStream;
import java.security.KeyStore;
import java.security.cert.CertificateFactory;
import java.util.Properties;
import javax.net.ssl.SSLContext;
import javax.net.ssl.TrustManagerFactory;

/** PORT MODE CA SENDER RECIPIENT CHUNK: sends standard input as it is, by BDAT where CHUNK is a number of octets. */
class JakartaMail {
    public static void main(String[] given) throws Exception {
        String port = given[0], mode = given[1], ca = given[2], from = given[3], to = given[4], chunk = given[5];
        KeyStore trusted = KeyStore.getInstance(KeyStore.getDefaultType());
        trusted.load(null);
        try (InputStream file = new FileInputStream(ca)) {
            trusted.setCertificateEntry("ca", CertificateFactory.getInstance("X.509").generateCertificate(file));
        }
        TrustManagerFactory managers = TrustManagerFactory.getInstance(TrustManagerFactory.getDefaultAlgorithm());
        managers.init(trusted);
        SSLContext context = SSLContext.getInstance("TLS");
        context.init(null, managers.getTrustManagers(), null);

        Properties settings = new Properties();
        settings.put("mail.smtp.host", "localhost");
        settings.put("mail.smtp.port", port);
        settings.put("mail.smtp.localhost", "client.example.org");
        settings.put("mail.smtp.from", from);
        settings.put("mail.smtp.timeout", "30000");
        settings.put("mail.smtp.chunksize", chunk);
        settings.put("mail.smtp.ssl.socketFactory", context.getSocketFactory());
        settings.put("mail.smtp.ssl.checkserveridentity", "true");
        settings.put("mail.smtp.ssl.enable", String.valueOf(mode.equals("TLS")));
        settings.put("mail.smtp.starttls.required", String.valueOf(mode.equals("STARTTLS")));
        Session session = Session.getInstance(settings);
        MimeMessage message = new MimeMessage(session, System.in);
        try (Transport transport = session.getTransport("smtp")) {
            transport.connect();
            transport.sendMessage(message, InternetAddress.parse(to));
        }
    }
}
