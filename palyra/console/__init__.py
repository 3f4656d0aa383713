"""The operator's HTTP interface: resources, their types, and the socket they are served on."""
