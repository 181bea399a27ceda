"""All commands: where each is, and what it does in a line (the first of its docstring)."""

Entry = tuple[str, str]

SECTIONS: dict[str, dict[str, Entry]] = {
    "The farm": {
        "status": ("cli.status:status", "Show the farm in one screen: one word, figures, workers, queues."),
        "top": ("cli.status:top", "Watch the farm live: as status, and what each worker runs; q ends it."),
        "bench": ("cli.bench:command", "Measure the running farm with tasks that do nothing."),
    },
    "Tasks": {
        "tasks": ("cli.tasks:tasks", "List tasks, the newest first."),
        "task": ("cli.tasks:task", "Show everything about one task, and why it waits."),
        "logs": ("cli.tasks:logs", "Show the last lines that a task has logged."),
        "result": ("cli.tasks:result", "Write the result of a task."),
        "wait": ("cli.tasks:wait", "Wait until tasks have ended."),
        "cancel": ("cli.control:cancel", "Cancel tasks: waiting ones at once, running ones are told to stop."),
        "retry": ("cli.control:retry", "Run ended tasks again."),
        "delete": ("cli.control:delete", "Delete ended tasks with their results."),
        "edit": ("cli.control:edit", "Change a task that waits."),
        "retention": ("cli.retention:command", "Show, or set, how long ended tasks are kept."),
    },
    "Queues, workers, schedules": {
        "queues": ("cli.queues:queues", "Show all queues: what they hold, and their limits."),
        "queue": ("cli.queues:queue", "Show a queue, pause, resume or limit it."),
        "workers": ("cli.workers:workers", "List the workers: what they do, and what they were told to do."),
        "worker": ("cli.workers:worker", "Show a worker, or tell it what to do."),
        "blames": ("cli.workers:blames", "List the workers that do not get a type, because it fails there alone."),
        "schedules": ("cli.schedules:schedules", "Show the recurring schedules."),
        "schedule": ("cli.schedules:schedule", "Show, make, change or run a recurring schedule."),
    },
    "Care": {
        "doctor": ("cli.doctor:command", "Check settings, dispatcher, store, disks, workers and this machine."),
        "backup": ("cli.backup:command", "Copy the queue into FILE, while the dispatcher goes on."),
        "restore": ("cli.restore:command", "Put the backup FILE in the place of the queue (DB_PATH)."),
        "migrate": ("cli.migrate:command", "Move the queue into a PostgreSQL database, while everything goes on."),
        "completion": ("cli.completion:command", "Print what makes a shell complete these commands."),
    },
}
COMMANDS: dict[str, Entry] = {name: entry for commands in SECTIONS.values() for name, entry in commands.items()}
