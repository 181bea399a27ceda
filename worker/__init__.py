"""The worker: claims tasks over HTTP, runs them in child processes, keeps outcomes until they are answered."""
