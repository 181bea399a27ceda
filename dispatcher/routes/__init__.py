"""The HTTP face: thin views, parse → one call into the queue → serialise."""
