"""A place on this machine where alerts arrive, in place of Slack, PagerDuty, Teams, Jira and the mail server.

    with Inbox() as inbox:
        …                                               # Alertmanager sends to inbox.url and inbox.smarthost
        inbox.wait_for(lambda message: message.channel == "slack/critical-alerts")

What arrives is what those services would get: Alertmanager has filled in its templates.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email import message_from_bytes, policy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer
from threading import Condition, Thread
from typing import Any, Self

import pandas as pd

from workshop_lib.ports import HOST


class InboxError(RuntimeError):
    """A message that was waited for did not come."""


@dataclass(frozen=True)
class Message:
    """One message as a service got it."""

    time: datetime
    channel: str
    """Where it arrived: ``slack/critical-alerts``, ``pagerduty``, ``webhook/tickets``, ``mail``."""
    status: str
    """``firing`` or ``resolved``; empty for a mail that is no alert."""
    title: str
    text: str
    body: dict[str, Any]
    """All that was sent."""


class Inbox:
    """Listens on two loopback ports, for HTTP and for mail, until its block ends."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._news = Condition()
        inbox = self

        class Web(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                inbox._put(_read(self.path.strip("/"), body))
                # What PagerDuty answers; to the others any 2xx is as good.
                answer = b'{"status": "success"}'
                self.send_response(202)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                """Keep quiet."""

        class Mail(StreamRequestHandler):
            def handle(self) -> None:
                for data in _receive(self):
                    inbox._put(_read_mail(data))

        self._servers = (ThreadingHTTPServer((HOST, 0), Web), _Mails((HOST, 0), Mail))
        self.url, self.smarthost = (f"{HOST}:{server.server_address[1]}" for server in self._servers)
        self.url = f"http://{self.url}"

    def __enter__(self) -> Self:
        for server in self._servers:
            Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        for server in self._servers:
            server.shutdown()
            server.server_close()

    @property
    def messages(self) -> list[Message]:
        """What has arrived so far, the oldest first."""
        with self._news:
            return list(self._messages)

    def table(self) -> pd.DataFrame:
        """What has arrived: ``time``, ``channel``, ``status``, ``title``, ``text``."""
        columns = ["time", "channel", "status", "title", "text"]
        return pd.DataFrame([{name: getattr(one, name) for name in columns} for one in self.messages], columns=columns)

    def wait_for(self, wanted: Callable[[Message], bool], seconds: float = 60) -> Message:
        """The first message of a kind, also one that is here already.

        Raises:
            InboxError: when there is none after ``seconds``.
        """
        end = time.monotonic() + seconds
        with self._news:
            while True:
                found = next(filter(wanted, self._messages), None)
                if found is not None:
                    return found
                if not self._news.wait(end - time.monotonic()):
                    here = ", ".join(f"{one.channel}: {one.title}" for one in self._messages)
                    raise InboxError(f"No such message within {seconds:g} s. There are: {here or 'none'}.")

    def _put(self, message: Message) -> None:
        with self._news:
            self._messages.append(message)
            self._news.notify_all()


def _read(channel: str, body: dict[str, Any]) -> Message:
    """A message in the form of Slack, of PagerDuty's Events API v2 or of Alertmanager's own webhook."""
    if channel.startswith("slack"):
        shown = body["attachments"][0]
        status, title, text = ("resolved" if shown["color"] == "good" else "firing"), shown["title"], shown["text"]
    elif channel.startswith("pagerduty"):
        status = {"trigger": "firing", "resolve": "resolved"}[body["event_action"]]
        shown = body.get("payload") or {}
        title, text = shown.get("summary", ""), json.dumps(shown.get("custom_details", {}))
    else:
        status, alerts = body["status"], body["alerts"]
        title = alerts[0]["annotations"].get("summary", "")
        text = "\n".join(alert["annotations"].get("description", "") for alert in alerts)
    return Message(datetime.now(UTC), channel, status, title, text, body)


def _read_mail(data: bytes) -> Message:
    mail = message_from_bytes(data, policy=policy.default)
    part = mail.get_body(("plain", "html"))
    text = "\n".join(part.get_content().splitlines()) if part else ""
    title = str(mail["Subject"])
    status = "resolved" if title.startswith("Over: ") else "firing"
    about = {name: str(mail[name]) for name in ("From", "To", "Subject")}
    return Message(datetime.now(UTC), "mail", status, title, text.strip(), about)


class _Mails(ThreadingTCPServer):
    daemon_threads = True


def _receive(connection: StreamRequestHandler) -> Iterator[bytes]:
    """Take mails over SMTP (RFC 5321): no more of it than a client needs that wants to deliver.

    A mail is accepted once the caller has dealt with it.
    """

    def say(line: str) -> None:
        connection.wfile.write(f"{line}\r\n".encode())

    say("220 inbox")
    while command := connection.rfile.readline().decode().strip():
        verb = command.split()[0].upper()
        if verb == "DATA":
            say("354 go on")
            lines = iter(connection.rfile.readline, b".\r\n")
            yield b"".join(line[1:] if line.startswith(b"..") else line for line in lines)
        elif verb == "QUIT":
            say("221 bye")
            break
        say("250 ok")
