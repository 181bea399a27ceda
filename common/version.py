"""The version of Taskmill, stated once."""

VERSION = "0.1.0"
