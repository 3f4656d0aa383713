"""The gateway: the rules of the house, composed from its rooms (``service``) for twistd (``tap``)."""
