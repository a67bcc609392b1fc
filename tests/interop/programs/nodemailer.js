// PORT MODE CA SENDER RECIPIENT...: sends standard input as it is, and says how many recipients have it.
const fs = require("fs");
const [port, mode, ca, from, ...to] = process.argv.slice(2);
const transport = require("nodemailer").createTransport({
  host: "127.0.0.1",
  port: Number(port),
  name: "client.example.org",
  secure: mode === "TLS",
  lmtp: mode.startsWith("LMTP"),
  ignoreTLS: mode === "plain" || mode === "LMTP",
  requireTLS: mode.endsWith("STARTTLS"),
  tls: { ca: fs.readFileSync(ca) },
});
transport.sendMail({ envelope: { from, to }, raw: fs.readFileSync(0) }).then(
  (info) => console.log(info.accepted.length),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
