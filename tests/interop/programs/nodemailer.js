// PORT MODE CA SENDER RECIPIENT: sends standard input as it is.
const fs = require("fs");
const [port, mode, ca, from, to] = process.argv.slice(2);
const transport = require("nodemailer").createTransport({
  host: "127.0.0.1",
  port: Number(port),
  name: "client.example.org",
  secure: mode === "TLS",
  ignoreTLS: mode === "plain",
  requireTLS: mode === "STARTTLS",
  tls: { ca: fs.readFileSync(ca) },
});
transport.sendMail({ envelope: { from, to: [to] }, raw: fs.readFileSync(0) }).then(
  (info) => console.log(info.response),
  (error) => {
    console.error(error);
    process.exit(1);
  },
);
