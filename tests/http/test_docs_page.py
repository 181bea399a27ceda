"""`/docs`: the API as a page, whole without a network and under a strict Content-Security-Policy."""

import re
from collections.abc import Callable

import pytest
from http_helpers import Api

LINKS = re.compile(r'(?:src|href)="([^"]+)"')


def test_the_page_brings_all_that_it_needs_from_here(api: Api) -> None:
    page = api.get("/docs")
    assert page.headers["Content-Type"].startswith("text/html")
    links = LINKS.findall(page.body.decode())
    assert len(links) > 4
    for link in links:
        assert link.startswith("/")
        reply = api.get(link)
        assert reply.status == 200, link
        assert reply.body
        assert reply.headers["X-Content-Type-Options"] == "nosniff"


def test_the_policy_allows_this_origin_alone_and_nothing_within_the_page(api: Api) -> None:
    page = api.get("/docs")
    policy = dict(part.strip().split(" ", 1) for part in page.headers["Content-Security-Policy"].split(";"))
    assert policy.pop("img-src") == "'self' data:"
    assert set(policy.values()) == {"'self'", "'none'"}
    assert policy["default-src"] == policy["frame-ancestors"] == "'none'"
    text = page.body.decode()
    assert not re.search(r"<style|style=|<script>| on\w+=", text)
    assert all("src=" in tag for tag in re.findall(r"<script[^>]*>", text))


def test_the_script_shows_our_document_and_asks_no_validator_elsewhere(api: Api) -> None:
    script = api.get("/docs/start.js").body.decode()
    assert '"/openapi.json"' in script
    assert "validatorUrl: null" in script
    assert b"SwaggerUIBundle" in api.get("/docs/swagger-ui-bundle.js").body


@pytest.mark.parametrize("path", ["/docs", "/docs/start.js", "/docs/swagger-ui.css", "/openapi.json"])
def test_it_is_behind_the_token(make_api: Callable[..., Api], path: str) -> None:
    api = make_api(token="t0ken")
    assert api.ask("GET", path, headers={}).status == 401
    assert api.get(path).status == 200


@pytest.mark.parametrize("name", ["swagger-editor.css", "..", "LICENSE", "../__init__.py", "%2e%2e%2f__init__.py"])
def test_no_other_file_is_served(api: Api, name: str) -> None:
    assert api.get(f"/docs/{name}").status == 404
