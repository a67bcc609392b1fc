"""The standalone server and the `smtpstate` command. Needs the extra `server`; see `smtpstate --help`."""
