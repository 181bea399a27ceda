"""The operator's commands: `./taskmill`, one module for each."""
