"""The dashboard's door: a login page when the settings name a user, and headers that keep foreign content out.

It stands before everything but the health addresses. Who is in has a signed cookie; the dashboard keeps no list of
them, so that any of its pods knows a reader whom another one let in. A new password ends all logins.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from urllib.parse import parse_qs

from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from workshop_lib.orchestration.labels import LANGUAGES, Labels, Language
from workshop_lib.settings import Settings

COOKIE = "dashboard"
HOURS = 12
"""How long a login lasts."""
WRONG_SECONDS = 1.0
"""Pause after a wrong password: guessing a million takes days then."""
LONGEST_FORM = 4096
OPEN = ("/health/live", "/health/ready", "/metrics", "/login", "/style.css", "/favicon.ico")
STYLE = Path(__file__).with_name("dashboard.css")
HEADERS = {
    # Gradio starts from a script within its page and compiles templates, hence the two exceptions. Nothing but the
    # dashboard itself is a source: no font, script, picture or address elsewhere is ever asked.
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval' blob:; style-src 'self' 'unsafe-inline';"
        " img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; object-src 'none'; base-uri 'self';"
        " form-action 'self'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
}


class LoginError(ValueError):
    """The settings for the login do not fit together; the message says how they do."""


@dataclass(frozen=True)
class Login:
    """Who may come in."""

    user: str
    password: str

    @property
    def _key(self) -> bytes:
        # Slow on purpose: a stolen cookie does not lead to a weak password within seconds.
        return hashlib.scrypt(self.password.encode(), salt=self.user.encode(), n=2**12, r=8, p=1)

    def fits(self, user: str, password: str) -> bool:
        """Whether both are right; takes the same time whatever is wrong."""
        right_user = hmac.compare_digest(user.encode(), self.user.encode())
        right_password = hmac.compare_digest(password.encode(), self.password.encode())
        return right_user and right_password


def login_of(settings: Settings) -> Login | None:
    """The login that the settings ask for; None for an open dashboard.

    Raises:
        LoginError: when only one of user and password is set.
    """
    password = settings.dashboard_password.get_secret_value() if settings.dashboard_password else ""
    if bool(settings.dashboard_user) != bool(password):
        missing = "WORKSHOP_DASHBOARD_PASSWORD" if settings.dashboard_user else "WORKSHOP_DASHBOARD_USER"
        raise LoginError(f"{missing} is not set. A login needs both; without both the dashboard is open.")
    return Login(settings.dashboard_user, password) if settings.dashboard_user else None


class Door:
    """Lets in who has logged in, and adds :data:`HEADERS` to every answer.

    Args:
        app: what is inside.
        login: who may come in; None for everybody.
        language: of the login page, where the address does not name one.
    """

    def __init__(self, app: ASGIApp, login: Login | None, language: Language) -> None:
        self._app, self._login, self._language = app, login, language
        self._key = login._key if login else b""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            # The dashboard needs no web sockets; lifespan events pass.
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return
        request = Request(scope, receive)
        answer: ASGIApp = self._app
        if scope["path"] in ("/login", "/logout"):
            answer = await self._door(request)
        elif self._login and scope["path"] not in OPEN and not self._is_in(request):
            answer = self._turn_away(request)
        await answer(scope, receive, _with_headers(send))

    def _is_in(self, request: Request) -> bool:
        value = _cookie(request)
        until, _, signature = value.partition(".")
        return (
            hmac.compare_digest(signature.encode(), self._sign(until).encode())
            and until.isdigit()
            and time.time() < int(until)
        )

    def _sign(self, text: str) -> str:
        return hmac.digest(self._key, text.encode(), "sha256").hex()

    def _turn_away(self, request: Request) -> Response:
        language = request.url.path.strip("/").partition("/")[0]
        if request.method == "GET" and "text/html" in request.headers.get("accept", ""):
            query = f"?lang={language}" if language in LANGUAGES else ""
            return RedirectResponse(f"/login{query}", 303)
        return PlainTextResponse("Log in first.", 401)

    async def _door(self, request: Request) -> Response:
        wanted = request.query_params.get("lang")
        say = Labels(next((language for language in LANGUAGES if language == wanted), self._language))
        if request.url.path == "/logout" or not self._login:
            answer = RedirectResponse("/", 303)
            answer.delete_cookie(COOKIE)
            return answer
        if request.method != "POST":
            return _page(say, "", 200)
        form = parse_qs((await _body(request)).decode(errors="replace"))
        user, password = (form.get(name, [""])[0] for name in ("user", "password"))
        if not self._login.fits(user, password):
            await asyncio.sleep(WRONG_SECONDS)
            return _page(say, say("login.wrong"), 401)
        until = str(int(time.time()) + HOURS * 3600)
        secure = request.headers.get("x-forwarded-proto", request.url.scheme) == "https"
        welcome = RedirectResponse(f"/{say.language}/", 303)
        welcome.set_cookie(
            COOKIE, f"{until}.{self._sign(until)}", HOURS * 3600, httponly=True, samesite="lax", secure=secure
        )
        return welcome


def _cookie(request: Request) -> str:
    try:
        found = SimpleCookie(request.headers.get("cookie", "")).get(COOKIE)
    except CookieError:
        return ""
    return found.value if found else ""


async def _body(request: Request) -> bytes:
    """The form; the rest of one that is longer is not read."""
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > LONGEST_FORM:
            return b""
    return body


def _with_headers(send: Send) -> Send:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            there = {name.lower() for name, _ in message.get("headers", ())}
            message["headers"] = [
                *message.get("headers", ()),
                *((name.encode(), value.encode()) for name, value in HEADERS.items() if name.encode() not in there),
            ]
        await send(message)

    return answer


def _page(say: Labels, problem: str, status: int, headers: Mapping[str, str] | None = None) -> HTMLResponse:
    alert = Markup('<p class="notice bad" role="alert">{}</p>').format(problem) if problem else ""
    return HTMLResponse(_LOGIN.format(
        language=say.language, title=say("page.title"), lead=say("login.lead"), alert=alert, user=say("login.user"),
        password=say("login.password"), enter=say("login.enter"),
    ), status, headers)  # fmt: skip


_LOGIN = Markup("""<!doctype html>
<html lang="{language}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="stylesheet" href="/style.css">
<link rel="icon" href="/favicon.ico">
</head>
<body class="login">
<main>
<h1>{title}</h1>
<p class="lead">{lead}</p>
{alert}
<form method="post" action="/login?lang={language}">
<label for="user">{user}</label>
<input id="user" name="user" autocomplete="username" required autofocus>
<label for="password">{password}</label>
<input id="password" name="password" type="password" autocomplete="current-password" required>
<button type="submit">{enter}</button>
</form>
</main>
</body>
</html>
""")
