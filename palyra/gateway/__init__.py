"""The gateway, composed from its rooms (``service``) and run by twistd (``tap``)."""
