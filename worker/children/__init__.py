"""Child processes: they run handlers, one task at a time; the supervisor keeps them and the worker apart (I9)."""
