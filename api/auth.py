"""Who may use the API: holders of the bearer token in the data directory."""

import hmac
import secrets
from pathlib import Path
from typing import Final

from dataplane import atomic_file
from kube.errors import Unauthorized

_TOKEN_BYTES: Final = 32


def load_token(path: Path) -> str:
    """The token in the file; made on the first start. Whoever can read the file may do everything."""
    try:
        token = path.read_text().strip()
    except FileNotFoundError:
        token = ""
    if not token:
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        atomic_file.write(path, f"{token}\n".encode())
    path.chmod(0o600)
    return token


class Authenticator:
    """Compares tokens in constant time."""

    def __init__(self, token: str) -> None:
        self._token = token.encode()

    def check(self, header: str | None) -> None:
        """Let the holder of the token pass; raises Unauthorized for anybody else."""
        scheme, _, token = (header or "").partition(" ")
        if not header:
            raise Unauthorized("Unauthorized: send the header Authorization: Bearer TOKEN")
        if scheme.lower() != "bearer" or not hmac.compare_digest(token.strip().encode(), self._token):
            raise Unauthorized("Unauthorized: the bearer token is not one of this server's")
