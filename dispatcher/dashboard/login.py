"""Letting a person in: the token, typed once, becomes a cookie that holds a signed promise and no token."""

from flask import Blueprint, Response, make_response, redirect, render_template, request

from dispatcher.errors import TooManyGuesses
from dispatcher.routes import auth

MOST = 4096  # bytes of a form


def add(views: Blueprint, gate: auth.Gate) -> None:
    """The views."""

    @views.get("/ui/login")
    def login() -> Response:
        return make_response(render_template("login.html", there=_there(request.args.get("next"))))

    @views.post("/ui/login")
    def let_in() -> Response:
        request.max_content_length = request.max_form_memory_size = MOST
        there = _there(request.form.get("next"))
        try:
            given = request.form.get("token", "").strip().encode("utf-8", "surrogateescape")
            access = gate.of_shown(given, request.remote_addr or "")
        except TooManyGuesses as held:
            return _again(there, f"{str(held).capitalize()}.", held.status)
        if access is None:
            return _again(there, "This is not the token.", 401)
        response = make_response(redirect(there, 303))
        gate.let_in(response, access)
        return response

    @views.post("/ui/logout")
    def log_out() -> Response:
        response = make_response({"status": "success"})
        response.delete_cookie(auth.COOKIE, path="/", httponly=True, samesite="Strict")
        return response


def _again(there: str, wrong: str, status: int) -> Response:
    return make_response(render_template("login.html", there=there, wrong=wrong), status)


def _there(text: str | None) -> str:
    """A page of ours to go on to; never another site."""
    plain = text is not None and text.startswith("/") and not text.startswith("//")
    return text if text and plain and "\\" not in text and text.isprintable() else "/"
