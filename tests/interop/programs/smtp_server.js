// MODE CHAIN KEY FOLDER: smtp-server on a free port, which it prints. A recipient nobody@ is refused, a message goes into FOLDER. In the
// mode "trusting" it believes its client about others, and prints what it was told, a line of JSON for each message.
const fs = require("fs");
const { SMTPServer } = require("smtp-server");
const [mode, chain, key, folder] = process.argv.slice(2);
const server = new SMTPServer({
  name: "mx.example.org",
  secure: mode === "implicit",
  lmtp: mode === "lmtp",
  hideSTARTTLS: mode === "off",
  authOptional: true,
  hideREQUIRETLS: false,
  hideDSN: false,
  useXClient: mode === "trusting",
  useXForward: mode === "trusting",
  cert: fs.readFileSync(chain),
  key: fs.readFileSync(key),
  onRcptTo(address, session, callback) {
    if (!address.address.startsWith("nobody@")) return callback();
    callback(Object.assign(new Error("5.1.1 No such mailbox"), { responseCode: 550 }));
  },
  onData(stream, session, callback) {
    const pieces = [];
    stream.on("data", (piece) => pieces.push(piece));
    stream.on("end", () => {
      fs.writeFileSync(`${folder}/${session.id}-${session.transaction}`, Buffer.concat(pieces));
      const { rcptTo } = session.envelope;
      if (mode === "trusting") {
        const { clientHostname, remoteAddress, hostNameAppearsAs, xClient, xForward, envelope } = session;
        const [xclient, xforward] = [xClient, xForward].map(Object.fromEntries);
        console.log(JSON.stringify({ clientHostname, remoteAddress, hostNameAppearsAs, xclient, xforward, envelope }));
      }
      callback(null, server.options.lmtp ? rcptTo.map(() => "2.0.0 Stored") : "2.0.0 Stored");
    });
  },
});
server.on("error", (error) => console.error(error.message));
server.listen(0, "127.0.0.1", () => console.log(server.server.address().port));
