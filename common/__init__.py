"""Leaves that the dispatcher, the worker and the client share; imports nothing else of ours."""
