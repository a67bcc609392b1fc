# PORT MODE CA SENDER RECIPIENT: sends standard input as it is.
require "net/smtp"
port, mode, ca, from, to = ARGV
smtp = Net::SMTP.new("127.0.0.1", Integer(port))
context = OpenSSL::SSL::SSLContext.new
context.set_params(ca_file: ca)
case mode
when "TLS" then smtp.enable_tls(context)
when "STARTTLS" then smtp.enable_starttls(context)
else smtp.disable_starttls
end
smtp.start(helo: "client.example.org") { |session| session.send_message($stdin.binmode.read, from, [to]) }
