"""`GET /integrity`."""

from http_helpers import Api


def test_a_whole_file_is_said_to_be_whole(api: Api) -> None:
    api.submit()
    told = api.get("/integrity").data
    assert (told["whole"], told["found"]) == (True, "ok")
    assert api.get("/integrity?x=1").status == 400


def test_a_link_on_another_site_starts_no_look(api: Api) -> None:
    linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert api.ask("GET", "/integrity", headers=linked).status == 403
