"""The dispatcher: keeps tasks in one store and hands them out under leases."""
