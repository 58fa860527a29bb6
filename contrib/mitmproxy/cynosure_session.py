"""Addon for mitmproxy: writes the session of your own browser to a credential file of Cynosure.

    mitmdump --listen-host 127.0.0.1 -s cynosure_session.py --set session_file=mailru.session

The file is written when the server has accepted a request with a complete session: a response with
status 200 whose JSON does not say otherwise. It has mode 0600 and is replaced by a rename, so that a
reader sees the old session or the new one. It holds the named cookies and parameters, the host, and
the name of the browser. Nothing else of the traffic is kept: connections to other hosts are passed on
as they are, still encrypted, and mitmdump prints no requests, whose addresses contain secrets.
"""

import json
import logging
import os
import stat
import tempfile

from mitmproxy import ctx, http, tls
from mitmproxy.log import ALERT

# Hosts whose session may come without TLS, as for Cynosure itself.
LOOPBACK_HOSTS = ("127.0.0.1", "::1", "localhost")


def names(text):
    """Returns the names of a list with commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def is_protected(request):
    """True if nobody on the way could have changed the request or its response."""
    return request.scheme == "https" or request.pretty_host in LOOPBACK_HOSTS


def is_accepted(response):
    """True if the server has accepted the request: JSON with status 200, in the body as well if it
    has one there."""
    if response is None or response.status_code != 200:
        return False
    media_type = response.headers.get("content-type", "").split(";")[0].strip().lower()
    if media_type != "application/json" and not media_type.endswith("+json"):
        return False
    try:
        body = json.loads(response.get_text(strict=False) or "")
    except (ValueError, RecursionError):
        return False
    return not isinstance(body, dict) or body.get("status", 200) == 200


def cookies_of(request):
    """Returns the values of the cookies, as they were sent, by their names. The first of a name is
    the one that the server prefers."""
    cookies = {}
    for header in request.headers.get_all("cookie"):
        for pair in header.split(";"):
            name, _, value = pair.strip().partition("=")
            cookies.setdefault(name, value)
    return cookies


def session_of(request, cookie_names, parameter_names):
    """Returns the session that a request carries, or None if a part of it is missing."""
    form = request.urlencoded_form if request.raw_content else {}
    parameters = {name: request.query.get(name) or form.get(name) for name in parameter_names}
    sent_cookies = cookies_of(request)
    cookies = {name: sent_cookies.get(name) for name in cookie_names}
    user_agent = request.headers.get("user-agent")
    if not all(parameters.values()) or not all(cookies.values()) or not user_agent:
        return None
    host = request.pretty_host
    return {"host": host, **parameters, "cookies": cookies, "user_agent": user_agent}


def is_stored(path, text):
    """True if the file has this text already, and nobody but its owner can read it."""
    try:
        with open(path, encoding="utf-8") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            return mode & 0o077 == 0 and file.read() == text
    except (OSError, ValueError):
        return False


def write_durably(path, text):
    """Replaces a file by a rename after its bytes are on disk. Only its owner may read it."""
    folder = os.path.dirname(path)
    descriptor, temporary = tempfile.mkstemp(dir=folder, prefix=".session-")  # mode 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    folder_descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(folder_descriptor)
    finally:
        os.close(folder_descriptor)


def session_path():
    """Returns the path of the file, without links, so that a link stays and leads to the new file."""
    return os.path.realpath(ctx.options.session_file)


class SessionWriter:
    """Writes each accepted session that differs from the one in the file."""

    def load(self, loader):
        loader.add_option("session_hosts", str, "e.mail.ru", "Hosts, with commas between them.")
        loader.add_option("session_file", str, "", "Credential file that is written.")
        loader.add_option("session_cookies", str, "Mpop,sdcs,ssdc", "Names of the cookies to keep.")
        loader.add_option("session_parameters", str, "email,token", "Names of the parameters to keep.")

    def running(self):
        # The address of a request has the parameters of the session. Only mitmdump prints it.
        if "flow_detail" in ctx.options:
            ctx.options.flow_detail = 0
        # mitmdump ends after an error at this point.
        if not ctx.options.session_file:
            logging.error("session_file is not set: add --set session_file=FILE")
            return
        folder = os.path.dirname(session_path())
        if not os.access(folder, os.W_OK | os.X_OK):
            logging.error(f"session_file: the folder {folder} does not exist or cannot be written")

    def tls_clienthello(self, data: tls.ClientHelloData):
        address = data.context.server.address
        requested = {data.client_hello.sni, address[0] if address else None}
        if requested.isdisjoint(names(ctx.options.session_hosts)):
            data.ignore_connection = True

    def response(self, flow: http.HTTPFlow):
        options, request = ctx.options, flow.request
        if request.pretty_host not in names(options.session_hosts) or not is_protected(request):
            return
        cookie_names, parameter_names = names(options.session_cookies), names(options.session_parameters)
        session = session_of(request, cookie_names, parameter_names)
        if session is None or not is_accepted(flow.response):
            return
        path, text = session_path(), json.dumps(session) + "\n"
        if is_stored(path, text):
            return
        try:
            write_durably(path, text)
        except OSError as error:
            logging.error(f"the session cannot be written to {path}: {error.strerror}")
            return
        logging.log(ALERT, f"session of {session['host']} written to {path}")


addons = [SessionWriter()]
