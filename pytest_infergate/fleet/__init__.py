"""One pytest process a machine class, started by whatever owns the machines."""
