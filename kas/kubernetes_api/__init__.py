"""DOOR for kubectl: HTTP/1.1 over TLS, credentials, relay into a link, and the one table of replies."""
