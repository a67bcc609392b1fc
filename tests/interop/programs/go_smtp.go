// PORT MODE CA SENDER RECIPIENT...: sends standard input as it is.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net"
	"os"
	"strings"

	"github.com/emersion/go-smtp"
)

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}

func main() {
	port, mode, ca, from, recipients := os.Args[1], os.Args[2], os.Args[3], os.Args[4], os.Args[5:]
	pem, err := os.ReadFile(ca)
	must(err)
	trusted := x509.NewCertPool()
	trusted.AppendCertsFromPEM(pem)
	config := &tls.Config{RootCAs: trusted, ServerName: "localhost"}
	address := "127.0.0.1:" + port
	var client *smtp.Client
	switch {
	case strings.HasPrefix(mode, "LMTP"):
		connection, err := net.Dial("tcp", address)
		must(err)
		client, err = smtp.NewClientLMTP(connection, "localhost")
		must(err)
	case mode == "TLS":
		client, err = smtp.DialTLS(address, config)
		must(err)
	default:
		client, err = smtp.Dial(address)
		must(err)
	}
	must(client.Hello("client.example.org"))
	if strings.HasSuffix(mode, "STARTTLS") {
		must(client.StartTLS(config))
	}
	must(client.Mail(from, nil))
	for _, recipient := range recipients {
		must(client.Rcpt(recipient))
	}
	body, err := client.Data()
	must(err)
	_, err = io.Copy(body, os.Stdin)
	must(err)
	must(body.Close())
	must(client.Quit())
}
