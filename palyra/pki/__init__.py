"""Who is who: the gateway's authority, certificates with one role each, trust, sealed keys."""
