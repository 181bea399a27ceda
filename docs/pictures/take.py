"""Takes the pictures of the dashboard: .venv/bin/python docs/pictures/take.py (needs what the tests need)."""

import sys
from pathlib import Path

from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from client import Client  # noqa: E402
from client.testing import LocalCluster  # noqa: E402

HERE = Path(__file__).parent
HANDLERS = ROOT / "tests" / "dashboard" / "handlers"
WIDE, PHONE = (1180, 760), (390, 760)


def fill(client: Client) -> int:
    """A farm that has something to show; the id of a task that drew a picture."""
    primes = [{"task_type": "prime", "task_data": {"limit": 500 * n, "method": "sieve"}} for n in range(1, 400)]
    client.submit_many([{**task, "tags": ["nightly"]} if n % 5 == 0 else task for n, task in enumerate(primes)])
    broken = {"task_type": "raise", "max_attempts": 1, "queue": "render"}
    for n, error in enumerate(["no scene 17 here", "disk quota exceeded on /scratch", "no scene 4 here"] * 3):
        client.submit_many([{**broken, "task_data": {"scene": n, "error": error}}])
    picture = client.submit("picture", {"svg": True}, queue="render")
    client.wait(picture, 60)
    client.submit_many({"task_type": "sleep", "task_data": {"seconds": 90}, "queue": "render"} for _ in range(9))
    client.submit_many({"task_type": "prime", "task_data": {"limit": 9}, "requires": ["gpu"]} for _ in range(40))
    client.limit("render", max_running=6)
    client.create_schedule("nightly-report", {"task_type": "noop", "queue": "reports"}, cron="30 3 * * 1-5")
    client.create_schedule("heartbeat-check", {"task_type": "noop", "queue": "reports"}, every="15m")
    client.run_schedule("nightly-report")
    return picture


def take(page: Page, url: str, name: str) -> None:
    """One picture."""
    page.goto(url)
    page.wait_for_load_state("networkidle", timeout=3000) if "/ui/submit" in url else page.wait_for_timeout(1500)
    page.screenshot(path=HERE / f"{name}.png")


def main() -> None:
    """All of them."""
    settings = {"TASKS_PATH": str(HANDLERS)}
    with LocalCluster(workers=3, concurrency=2, settings=settings) as farm, sync_playwright() as playwright:
        picture = fill(farm.client)
        pages = {
            "overview": "/", "tasks": "/ui/tasks", "failures": "/ui/tasks?q=status:failed", "workers": "/ui/workers",
            "task": f"/ui/task/{picture}", "queues": "/ui/queues",
            "schedules": "/ui/schedules", "submit": "/ui/submit?type=prime",
        }  # fmt: skip
        browser = playwright.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        farm.until(lambda: farm.client.stats()["finished_per_second"] > 0, "tasks end")
        for size, scheme, end, names in (
            (WIDE, "light", "", pages), (WIDE, "dark", "-dark", ("overview", "tasks")),
            (PHONE, "light", "-phone", ("overview", "tasks")),
        ):  # fmt: skip
            viewport = {"width": size[0], "height": size[1]}
            page = browser.new_context(viewport=viewport, color_scheme=scheme).new_page()
            for name in names:
                take(page, farm.client.url + pages[name], name + end)
        browser.close()
        for worker in farm.workers.values():
            worker.kill()


if __name__ == "__main__":
    main()
