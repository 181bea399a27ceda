"""What a person does with the dashboard, in a real browser over a real farm."""

import json
import re
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from client.testing import LocalCluster

HOSTILE = "<img src=x onerror=window.owned=1>'\"&{{7*7}}<script>window.owned=1</script>"


def failed(farm: LocalCluster, queue: str, n: int = 1, limit: int = -5) -> list[int]:
    """Tasks that failed in a queue."""
    tasks = [{"task_type": "prime", "task_data": {"limit": limit}, "queue": queue, "max_attempts": 1}] * n
    with_schema_off = [{**task, "task_type": "raise"} for task in tasks]
    ids = farm.client.submit_many(with_schema_off)
    for task_id in ids:
        assert farm.client.wait(task_id, 20)["status"] == "failed"
    return ids


def unowned(page: Page) -> None:
    assert page.evaluate("window.owned") is None


def answer(page: Page, words: str) -> None:
    """Say yes to the question, which must have these words."""
    dialog = page.locator("#ask")
    expect(dialog).to_contain_text(words)
    page.locator("#ask-yes").click()


# -- overview --


def test_the_first_page_says_how_the_farm_is(page: Page, farm: LocalCluster, name: str) -> None:
    farm.client.wait(farm.client.submit("noop", queue=name), 20)
    page.goto("/")
    expect(page.locator(".word strong")).to_have_text(re.compile("active|idle|waiting"))
    expect(page.locator("#farm")).to_contain_text("worker-1")
    expect(page.locator("#lines")).to_contain_text(re.compile("own"))
    for span in ("5 minutes", "1 hour", "24 hours"):
        page.get_by_role("link", name=span).click()
        expect(page.get_by_role("link", name=span)).to_have_attribute("aria-current", "true")
        expect(page.get_by_role("img", name=re.compile("Ended per second"))).to_be_visible()


def test_pages_move_by_themselves(page: Page, farm: LocalCluster, name: str) -> None:
    page.goto(f"/ui/tasks?q=queue:{name}")
    expect(page.locator("#live")).to_have_text("live")
    expect(page.locator("#list")).to_contain_text("No task matches")
    task_id = farm.client.submit("noop", queue=name)
    expect(page.locator("#list")).to_contain_text(str(task_id))
    expect(page.locator("#list .state")).to_have_text("completed")


def test_without_scripts_everything_can_be_read(new_page: Callable[..., Page], farm: LocalCluster, name: str) -> None:
    task_id = farm.client.submit("noop", {"word": "legible"}, queue=name)
    farm.client.wait(task_id, 20)
    page = new_page(farm.client.url, java_script_enabled=False)
    for path in ("/", "/ui/tasks", "/ui/workers", "/ui/queues", "/ui/schedules", "/ui/submit"):
        assert page.goto(path).status == 200
    page.goto("/ui/tasks")
    page.locator("#q").fill(f"queue:{name} data.word:legible")
    page.keyboard.press("Enter")
    page.get_by_role("link", name=str(task_id)).click()
    expect(page.locator("#data")).to_contain_text("legible")


def test_a_hidden_tab_rests_and_comes_back(page: Page, farm: LocalCluster) -> None:
    page.goto("/")
    expect(page.locator("#live")).to_have_text("live")
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    notice = "document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(hide % "true" + notice)
    expect(page.locator("#live")).to_have_text("paused")
    page.evaluate(hide % "false" + notice)
    expect(page.locator("#live")).to_have_text("live")


# -- tasks --


def test_searches_are_in_the_address_and_say_what_is_wrong(page: Page, farm: LocalCluster, name: str) -> None:
    ids = farm.client.submit_many(
        {"task_type": "noop", "task_data": {"limit": n}, "queue": name, "tags": [f"t{n}"]} for n in (1, 2)
    )
    page.goto("/ui/tasks")
    page.keyboard.press("/")
    page.keyboard.type(f"queue:{name} data.limit:2")
    page.keyboard.press("Enter")
    expect(page).to_have_url(re.compile(r"q=queue%3Aown\d+\+data.limit%3A2"))
    expect(page.locator("#list tbody tr")).to_have_count(1)
    expect(page.locator("#list")).to_contain_text(str(ids[1]))
    page.goto(f"/ui/tasks?q=queue:{name} tag:t1")
    expect(page.locator("#list tbody tr")).to_have_count(1)
    page.goto("/ui/tasks?q=status:nonsense")
    expect(page.get_by_role("alert")).to_contain_text("status: must be one of")


def test_pages_by_cursor(page: Page, farm: LocalCluster, name: str) -> None:
    farm.client.submit_many({"task_type": "nobody", "queue": name} for _ in range(60))
    page.goto(f"/ui/tasks?q=queue:{name}")
    expect(page.locator("#list tbody tr")).to_have_count(50)
    expect(page.locator("#states")).to_contain_text("pending 60")
    page.get_by_role("link", name="Older tasks").click()
    expect(page.locator("#list tbody tr")).to_have_count(10)
    page.get_by_role("link", name="Back to the newest").click()
    expect(page.locator("#list tbody tr")).to_have_count(50)


def test_all_that_match_are_cancelled_after_their_count_was_shown(page: Page, farm: LocalCluster, name: str) -> None:
    farm.client.submit_many({"task_type": "nobody", "queue": name} for _ in range(70))
    page.goto(f"/ui/tasks?q=queue:{name} status:pending")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#ask")).to_contain_text("Cancel 70 tasks?")
    page.get_by_role("button", name="Keep as it is").click()
    assert len(list(farm.client.tasks(queue=name, status="pending"))) == 70
    page.get_by_role("button", name="Cancel").click()
    answer(page, "Cancel 70 tasks?")
    expect(page.locator("#toast")).to_have_text("70 tasks cancelled.")
    assert len(list(farm.client.tasks(queue=name, status="cancelled"))) == 70


def test_what_only_a_look_can_find_is_acted_on_by_its_ids(page: Page, farm: LocalCluster, name: str) -> None:
    farm.client.submit_many({"task_type": "nobody", "task_data": {"n": n % 2}, "queue": name} for n in range(6))
    page.goto(f"/ui/tasks?q=queue:{name} data.n:1")
    page.get_by_role("button", name="Cancel").click()
    answer(page, "Cancel 3 tasks?")
    expect(page.locator("#toast")).to_have_text("3 tasks cancelled.")
    assert len(list(farm.client.tasks(queue=name, status="pending"))) == 3


def test_selected_tasks_are_deleted_and_a_look_keeps_the_selection(page: Page, farm: LocalCluster, name: str) -> None:
    ids = farm.client.submit_many({"task_type": "noop", "queue": name} for _ in range(3))
    for task_id in ids:
        farm.client.wait(task_id, 20)
    page.goto(f"/ui/tasks?q=queue:{name} status:completed")
    for task_id in ids[:2]:
        page.get_by_role("checkbox", name=f"Select task {task_id}", exact=True).check()
    page.evaluate("taskmill.refresh()")
    expect(page.locator(".scope")).to_have_text("2 tasks selected:")
    page.get_by_role("button", name="Delete").click()
    answer(page, "Delete 2 tasks?")
    expect(page.locator("#list tbody tr")).to_have_count(1)


def test_failures_are_grouped_by_error_and_retried(page: Page, farm: LocalCluster, name: str) -> None:
    ids = failed(farm, name, 3)
    page.goto(f"/ui/tasks?q=queue:{name} status:failed")
    group = page.locator("#groups a")
    expect(group).to_have_count(1)
    expect(group.locator("b")).to_have_text("3")
    group.click()
    expect(page.locator("#list tbody tr")).to_have_count(3)
    page.goto(f"/ui/tasks?q=queue:{name} status:failed")
    page.get_by_role("button", name="Retry").click()
    answer(page, "Retry 3 tasks?")
    expect(page.locator("#toast")).to_have_text("3 tasks retried.")
    farm.until(lambda: farm.client.task(ids[0])["generation"] == 2, "a new life")


# -- one task --


def test_a_task_is_followed_to_its_end(page: Page, farm: LocalCluster, name: str) -> None:
    task_id = farm.client.submit("sleep", {"seconds": 300}, queue=name)
    page.goto(f"/ui/task/{task_id}")
    expect(page.locator("#top .state")).to_have_text("running")
    expect(page.locator("#top progress")).to_be_visible()
    expect(page.locator("#attempts")).to_contain_text("worker-1")
    page.get_by_role("button", name="Cancel").click()
    answer(page, f"Cancel task {task_id}?")
    expect(page.locator("#top .state")).to_have_text("cancelled")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#top .state")).to_have_text("running")
    farm.client.cancel([task_id])
    expect(page.locator("#top .state")).to_have_text("cancelled")
    page.get_by_role("button", name="Delete").click()
    answer(page, f"Delete task {task_id} with its result?")
    expect(page).to_have_url(re.compile("/ui/tasks$"))


def test_a_waiting_task_says_why_and_is_edited(page: Page, farm: LocalCluster, name: str) -> None:
    task_id = farm.client.submit("nobody", {"a": 2**60}, queue=name)
    page.goto(f"/ui/task/{task_id}")
    expect(page.locator("#why")).to_contain_text("no live worker for task type nobody")
    page.get_by_text("Edit while it waits").click()
    form = page.locator("form")
    form.get_by_label("Data").fill('{"a": 1152921504606846977, "b": [')
    form.get_by_role("button", name="Save").click()
    expect(form.get_by_role("alert")).to_have_text("Data must be JSON.")
    form.get_by_label("Data").fill('{"a": 1152921504606846977}')
    form.get_by_label("Priority").fill("7")
    form.get_by_role("button", name="Save").click()
    expect(page.locator("#toast")).to_have_text("Saved.")
    task = farm.client.task(task_id)
    assert (task["task_data"], task["priority"], task["max_attempts"]) == ({"a": 2**60 + 1}, 7, 3)


@pytest.mark.parametrize("svg", [True, False], ids=["svg", "png"])
def test_a_picture_is_shown_and_its_script_stays_inert(page: Page, farm: LocalCluster, svg: bool) -> None:
    task_id = farm.client.submit("picture", {"svg": svg})
    farm.client.wait(task_id, 20)
    page.goto(f"/ui/task/{task_id}")
    picture = page.get_by_role("img", name=re.compile("as a picture"))
    expect(picture).to_be_visible()
    assert picture.evaluate("one => one.decode().then(() => one.naturalWidth)") > 0
    expect(page.locator("#log")).to_contain_text("drawing <b>now</b>")
    unowned(page)
    page.goto(f"/ui/task/{task_id}/picture")
    unowned(page)


def test_data_is_copied_over_plain_http(page: Page, farm: LocalCluster, name: str) -> None:
    task_id = farm.client.submit("nobody", {"copy": "this"}, queue=name)
    page.goto(f"/ui/task/{task_id}")
    page.evaluate("Object.defineProperty(navigator, 'clipboard', {value: undefined})")
    page.evaluate("document.addEventListener('copy', () => { window.copied = String(getSelection()) })")
    page.locator("#data").get_by_role("button", name="Copy").click()
    expect(page.locator("#toast")).to_have_text("Copied.")
    assert '"copy": "this"' in page.evaluate("window.copied")


def test_a_task_that_is_not_there(page: Page) -> None:
    assert page.goto("/ui/task/999999").status == 404
    expect(page.locator("main")).to_contain_text("task 999999 not found")


# -- submit --


def test_the_form_comes_from_the_schema(page: Page, farm: LocalCluster, name: str) -> None:
    page.goto("/ui/submit")
    page.get_by_role("link", name="prime").click()
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_have_text("limit is needed.")
    page.get_by_role("textbox", name="limit needed").fill("x")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_have_text("limit must be a whole number.")
    page.get_by_role("textbox", name="limit needed").fill("-1")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text("task_data.limit")
    page.get_by_role("textbox", name="limit needed").fill("1000")
    page.get_by_label("method").select_option("sieve")
    page.get_by_label("return_primes").select_option("false")
    page.get_by_text("Options").click()
    page.get_by_label("Queue").fill(name)
    page.get_by_label("Tags").fill("one, two")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(re.compile(r"/ui/task/\d+"))
    expect(page.locator("#result")).to_contain_text('"count": 168')
    task = farm.client.task(int(page.url.rsplit("/", 1)[1]))
    assert task["task_data"] == {"limit": 1000, "method": "sieve", "return_primes": False}
    assert (task["queue"], task["tags"]) == (name, ["one", "two"])


def test_a_clone_brings_data_and_options_along(page: Page, farm: LocalCluster, name: str) -> None:
    data = {"big": 2**70, "deep": {"ä": [1]}}
    first = farm.client.submit("nobody", data, queue=name, priority=4, tags=["kept"], timeout_seconds=90)
    page.goto(f"/ui/task/{first}")
    page.get_by_role("link", name="Clone").click()
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(re.compile(r"/ui/task/\d+"))
    again = farm.client.task(int(page.url.rsplit("/", 1)[1]))
    assert again["task_id"] != first
    assert (again["task_data"], again["priority"], again["tags"], again["timeout_seconds"]) == (data, 4, ["kept"], 90)


# -- workers, queues, schedules --


def test_workers_show_their_tasks_and_take_orders(page: Page, farm: LocalCluster, name: str) -> None:
    with_worker = farm.start_worker(f"w-{name}", WORKER_LABELS=name)
    task_id = farm.client.submit("sleep", {"seconds": 300}, requires=[name])
    page.goto("/ui/workers")
    card = page.get_by_role("article", name=f"Worker w-{name}")
    expect(card).to_contain_text(str(task_id))
    expect(card).to_contain_text("CPUs")
    expect(card).to_contain_text("Outbox")
    card.get_by_role("button", name="Quiet").click()
    expect(card.locator(".state").first).to_have_text("quiet")
    card.get_by_role("button", name="Sleep now").click()
    answer(page, "Its running tasks go back")
    expect(card.locator(".state").first).to_have_text("asleep")
    farm.until(lambda: farm.client.task(task_id)["status"] == "pending", "the task goes back")
    assert farm.client.task(task_id)["attempts"] == 0
    card.get_by_role("button", name="Run", exact=True).click()
    expect(card.locator(".state").first).to_have_text(re.compile("busy|ready"))
    card.get_by_role("button", name="Stop now").click()
    answer(page, "Its running tasks go back")
    assert with_worker.popen.wait(20) == 0
    del farm.workers[f"w-{name}"]
    farm.client.cancel([task_id])


def test_queues_are_paused_and_limited(page: Page, farm: LocalCluster, name: str) -> None:
    farm.client.submit("nobody", queue=name)
    page.goto("/ui/queues")
    card = page.get_by_role("article", name=f"Queue {name}", exact=True)
    card.get_by_role("button", name="Pause").click()
    expect(card.locator(".state")).to_have_text("paused")
    card.get_by_role("button", name="Resume").click()
    expect(card.locator(".state")).to_have_text("open")
    card.get_by_text("Limits").click()
    card.get_by_label("Running at a time").fill("2")
    card.get_by_label("Starts").fill("5")
    card.get_by_label("in seconds").fill("1.5")
    card.get_by_role("button", name="Save").click()
    expect(card).to_contain_text("5 in 1.5 s")
    queue = farm.client.queue(name)
    assert (queue["max_running"], queue["rate"]) == (2, {"count": 5, "period_seconds": 1.5})
    for label in ("Running at a time", "Starts", "in seconds"):
        card.get_by_label(label).fill("")
    card.get_by_role("button", name="Save").click()
    farm.until(lambda: farm.client.queue(name)["max_running"] is None, "the limit is gone")
    assert farm.client.queue(name)["rate"] is None


def test_schedules_are_said_in_words_and_run(page: Page, farm: LocalCluster, name: str) -> None:
    farm.client.create_schedule(name, {"task_type": "noop", "queue": name}, cron="30 3 * * 1-5")
    page.goto("/ui/schedules")
    card = page.get_by_role("article", name=f"Schedule {name}", exact=True)
    expect(card).to_contain_text("03:30")
    expect(card).to_contain_text("never")
    card.get_by_role("button", name="Run now").click()
    expect(card.locator(".state")).to_have_text("completed")
    card.get_by_role("button", name="Pause").click()
    expect(card).to_contain_text("paused")
    farm.client.delete_schedule(name)


# -- hostile texts, access, faults --


def test_hostile_texts_stay_texts(page: Page, farm: LocalCluster, name: str) -> None:
    ids = [
        farm.client.submit("raise", {"error": HOSTILE, HOSTILE: HOSTILE}, queue=name, max_attempts=1, key=HOSTILE[:99])
    ]
    farm.client.wait(ids[0], 20)
    ids.append(farm.client.submit("nobody", {HOSTILE: [HOSTILE]}, queue=name))
    for path in (
        *(f"/ui/task/{task_id}" for task_id in ids), "/", f"/ui/tasks?q=queue:{name}", "/ui/workers", "/ui/queues",
        f"/ui/tasks?q=queue:{name} status:failed", f"/ui/submit?like={ids[1]}", f"/ui/submit?like={ids[0]}",
    ):  # fmt: skip
        page.goto(path)
        page.evaluate("taskmill.refresh?.()")
        unowned(page)
    page.goto(f"/ui/task/{ids[0]}")
    expect(page.locator("#top .note")).to_contain_text("onerror=window.owned")
    for text in (HOSTILE, f'status:failed error:"{HOSTILE[:40]}"', f"data.{HOSTILE}:1"):
        page.goto("/ui/tasks")
        page.locator("#q").fill(text)
        with page.expect_navigation():
            page.keyboard.press("Enter")
        unowned(page)
        assert "49" not in page.locator("#q").input_value()


def test_the_token_lets_in_once_and_logging_out_ends_it(new_page: Callable[..., Page], guarded: LocalCluster) -> None:
    page = new_page(guarded.client.url)
    page.goto("/ui/tasks?q=status:failed")
    expect(page).to_have_url(re.compile("/ui/login"))
    page.get_by_label("Token").fill("wrong")
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_role("alert")).to_have_text("This is not the token.")
    page.get_by_label("Token").fill("may-do-everything")
    page.get_by_role("button", name="Log in").click()
    expect(page).to_have_url(re.compile("status:failed"))
    expect(page.locator("#live")).to_have_text("live")
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    assert "may-do-everything" not in json.dumps(cookie)
    page.goto("/ui/submit")
    page.get_by_role("textbox", name="Type").fill("noop")
    page.get_by_role("button", name="Submit").click()
    page.wait_for_url(re.compile(r"/ui/task/\d+"))
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile("/ui/login"))
    page.goto("/")
    expect(page).to_have_url(re.compile("/ui/login"))


def test_who_may_look_sees_no_button_and_changes_nothing(new_page: Callable[..., Page], guarded: LocalCluster) -> None:
    task_id = guarded.client.submit("noop")
    page = new_page(guarded.client.url)
    page.goto("/ui/login")
    page.get_by_label("Token").fill("may-look")
    page.get_by_role("button", name="Log in").click()
    expect(page.locator(".bar")).to_contain_text("read-only")
    for path in (f"/ui/task/{task_id}", "/ui/tasks", "/ui/workers", "/ui/queues", "/ui/schedules", "/ui/submit"):
        page.goto(path)
        assert page.locator("main button[data-url], main button[data-bulk], main form[data-form]").count() == 0
    status = page.evaluate(
        f"fetch('/task/{task_id}/cancel', {{method: 'POST', headers: {{'X-Taskmill': 'page'}}}}).then(r => r.status)"
    )
    assert status == 403
    assert guarded.client.task(task_id)["status"] == "pending"


def test_when_the_dispatcher_is_away_the_page_says_so_and_comes_back(page: Page, farm: LocalCluster, name: str) -> None:
    page.goto(f"/ui/tasks?q=queue:{name}")
    expect(page.locator("#live")).to_have_text("live")
    farm.dispatcher.stop()
    expect(page.locator("#live")).to_have_text("connecting…")
    farm.start_dispatcher()
    task_id = farm.client.submit("noop", queue=name)
    expect(page.locator("#list")).to_contain_text(str(task_id))


# -- for everybody --


PAGES = ("/", "/ui/tasks", "/ui/tasks?q=status:failed", "/ui/workers", "/ui/queues", "/ui/schedules",
         "/ui/submit?type=prime", "/ui/login")  # fmt: skip


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_serious_barrier(new_page: Callable[..., Page], farm: LocalCluster, name: str, scheme: str) -> None:
    rules: dict[str, object] = {"resultTypes": ["violations"]}
    if scheme == "dark":
        rules["runOnly"] = ["color-contrast"]  # all else is the same
    (task_id,) = failed(farm, name)
    page = new_page(farm.client.url, color_scheme=scheme, bypass_csp=True)
    some = PAGES if scheme == "light" else PAGES[:2]
    for path in (*some, f"/ui/task/{task_id}"):
        page.goto(path)
        found = Axe().run(page, options=rules).response["violations"]
        serious = [one for one in found if one["impact"] in ("serious", "critical")]
        assert not serious, (path, json.dumps([(one["id"], [n["html"] for n in one["nodes"]]) for one in serious]))


def test_it_fits_a_phone(new_page: Callable[..., Page], farm: LocalCluster, name: str) -> None:
    task_id = farm.client.submit("nobody", {"long": "x" * 500}, queue=name, tags=["t" * 100])
    page = new_page(farm.client.url, width=390, has_touch=True)
    for path in (*PAGES, f"/ui/task/{task_id}", f"/ui/tasks?q=queue:{name}"):
        page.goto(path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path


def test_it_is_used_by_keyboard(page: Page, farm: LocalCluster, name: str) -> None:
    task_id = farm.client.submit("nobody", queue=name)
    page.goto(f"/ui/task/{task_id}")
    page.keyboard.press("Tab")
    expect(page.get_by_text("Skip to content")).to_be_focused()
    page.get_by_role("button", name="Cancel").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Keep as it is")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator("#ask")).to_be_hidden()
    expect(page.get_by_role("button", name="Cancel")).to_be_focused()
    assert farm.client.task(task_id)["status"] == "pending"
