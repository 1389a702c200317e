"""Where the API server is and how to prove who we are: read from a kubeconfig, or from a pod's service account.

Nothing here opens a connection. Tokens and private keys are never part of a repr, a log line or an error.
"""

import base64
import binascii
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, TypeVar
from urllib.parse import urlsplit

import msgspec

_SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")

Named = TypeVar("Named", "_NamedCluster", "_NamedUser", "_NamedContext")


class ConnectionConfigError(ValueError):
    """A kubeconfig or service account that cannot be used: the file, the field, and what to do."""

    def __init__(self, path: Path | None, field_name: str, problem: str) -> None:
        super().__init__(path, field_name, problem)
        self.path = path
        self.field = field_name
        self.problem = problem

    def __str__(self) -> str:
        place = f"{self.path}: {self.field}" if self.path else self.field
        return f"{place}: {self.problem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Connection:
    """One API server and one identity. Certificates and keys are PEM; `ca` None means the system's authorities.

    What `token_file` holds goes before `token`, which may be older.
    """

    server: str
    ca: bytes | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    token_file: Path | None = None
    client_certificate: bytes | None = field(default=None, repr=False)
    client_key: bytes | None = field(default=None, repr=False)
    server_name: str | None = None
    insecure: bool = False
    origin: Path | None = field(default=None, compare=False)  # the file it was read from, to be named in errors

    def __post_init__(self) -> None:
        _check_server(self.server)
        if (self.client_certificate is None) != (self.client_key is None):
            missing = "client-key" if self.client_key is None else "client-certificate"
            raise ConnectionConfigError(None, missing, "missing: a client certificate and its key come together")
        if self.token is not None and not (self.token.isascii() and self.token.isprintable()):
            raise ConnectionConfigError(None, "token", "contains characters that cannot stand in an HTTP header")


def _check_server(server: str) -> None:
    try:
        url = urlsplit(server)
        usable = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise ConnectionConfigError(None, "server", f"{server!r} is not a URL such as https://10.0.0.1:6443")
    if url.username is not None:
        raise ConnectionConfigError(None, "server", "must not carry a user name or password: use a token")


# --- kubeconfig


class _Kebab(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    pass


class _Cluster(_Kebab, frozen=True):
    server: str = ""
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    insecure_skip_tls_verify: bool = False
    tls_server_name: str = ""
    proxy_url: str = ""


class _User(_Kebab, frozen=True):
    token: str = ""
    token_file: str = msgspec.field(default="", name="tokenFile")
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    exec: dict[str, object] | None = None
    auth_provider: dict[str, object] | None = None
    username: str = ""
    impersonate: str = msgspec.field(default="", name="as")


class _Context(_Kebab, frozen=True):
    cluster: str = ""
    user: str = ""


class _NamedCluster(_Kebab, frozen=True):
    name: str
    cluster: _Cluster = _Cluster()


class _NamedUser(_Kebab, frozen=True):
    name: str
    user: _User | None = None  # kubectl writes null for a user without credentials


class _NamedContext(_Kebab, frozen=True):
    name: str
    context: _Context = _Context()


class _Kubeconfig(_Kebab, frozen=True):
    current_context: str = ""
    clusters: tuple[_NamedCluster, ...] | None = None
    users: tuple[_NamedUser, ...] | None = None
    contexts: tuple[_NamedContext, ...] | None = None


def from_kubeconfig(path: Path | str, context: str | None = None) -> Connection:
    """Read the cluster and user that `context`, or else current-context, names in a kubeconfig file."""
    file = Path(path)
    return _Selected(file, _parse(file), context).connection()


def _parse(path: Path) -> _Kubeconfig:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ConnectionConfigError(path, "kubeconfig", f"cannot be read: {error.strerror}") from error
    try:
        return msgspec.yaml.decode(content, type=_Kubeconfig)
    except msgspec.ValidationError as error:
        raise ConnectionConfigError(path, "kubeconfig", str(error)) from error
    except msgspec.DecodeError:
        # The parser quotes the lines around its error, and such a line may hold a key.
        raise ConnectionConfigError(path, "kubeconfig", "is not YAML") from None


class _Selected:
    """What one context of one kubeconfig file means; remembers the file to name it in every error."""

    def __init__(self, path: Path, config: _Kubeconfig, context: str | None) -> None:
        self._path = path
        name = config.current_context if context is None else context
        if not name:
            raise self._error("current-context", "not set: set it, or choose a context")
        chosen = self._find("contexts", config.contexts, name).context
        self._cluster_field = f"clusters[{chosen.cluster}].cluster"
        self._cluster = self._find("clusters", config.clusters, chosen.cluster).cluster
        self._user_field = f"users[{chosen.user}].user"
        self._user = _User()
        if chosen.user:
            self._user = self._find("users", config.users, chosen.user).user or self._user

    def _error(self, field_name: str, problem: str) -> ConnectionConfigError:
        return ConnectionConfigError(self._path, field_name, problem)

    def _find(self, section: str, entries: Sequence[Named] | None, name: str) -> Named:
        for entry in entries or ():
            if entry.name == name:
                return entry
        known = ", ".join(entry.name for entry in entries or ()) or "none"
        raise self._error(section, f"no entry named {name!r}; there are: {known}")

    def connection(self) -> Connection:
        self._refuse_unsupported()
        cluster, user = self._cluster, self._user
        try:
            return Connection(
                server=cluster.server.rstrip("/"),
                ca=self._pem(
                    "certificate-authority", cluster.certificate_authority_data, cluster.certificate_authority
                ),
                token=user.token or None,
                token_file=self._token_file(user),
                client_certificate=self._pem(
                    "client-certificate", user.client_certificate_data, user.client_certificate
                ),
                client_key=self._pem("client-key", user.client_key_data, user.client_key),
                server_name=cluster.tls_server_name or None,
                insecure=cluster.insecure_skip_tls_verify,
                origin=self._path,
            )
        except ConnectionConfigError as error:
            if error.path is not None:
                raise
            place = self._cluster_field if error.field == "server" else self._user_field
            raise self._error(f"{place}.{error.field}", error.problem) from error

    def _refuse_unsupported(self) -> None:
        """Refuse ways to connect that are not spoken here; ignored, they end in a puzzling 401 or timeout."""
        user = self._user
        asked = {"exec": user.exec, "auth-provider": user.auth_provider, "username": user.username}
        for name, value in (asked | {"as": user.impersonate}).items():
            if value:
                raise self._error(f"{self._user_field}.{name}", "not supported: use a token or a client certificate")
        if self._cluster.proxy_url:
            raise self._error(f"{self._cluster_field}.proxy-url", "not supported: connect to the server directly")

    def _beside(self, name: str) -> Path:
        """Return a file the kubeconfig names: relative paths start at the kubeconfig's own folder."""
        return self._path.parent / name

    def _token_file(self, user: _User) -> Path | None:
        """Return the file that somebody renews; beside it `token` is only what to say while the file cannot be read."""
        if not user.token_file:
            return None
        path = self._beside(user.token_file)
        if not user.token and not os.access(path, os.R_OK):
            problem = f"{path} cannot be read, so there is no token to send"
            raise self._error(f"{self._user_field}.tokenFile", problem)
        return path

    def _pem(self, field_name: str, encoded: str, file: str) -> bytes | None:
        """Return the inline `-data` value, which wins, or the content of the file."""
        if encoded:
            try:
                return base64.b64decode(encoded, validate=True)
            except binascii.Error as error:
                raise self._error(f"{field_name}-data", f"is not base64: {error}") from None
        if not file:
            return None
        try:
            return self._beside(file).read_bytes()
        except OSError as error:
            raise self._error(field_name, f"{self._beside(file)} cannot be read: {error.strerror}") from error


# --- service account


def in_cluster(environ: Mapping[str, str] = os.environ, folder: Path = _SERVICE_ACCOUNT) -> Connection:
    """Read what the kubelet gives every container: the API's address, a CA and a token that it renews in place."""
    host = environ.get("KUBERNETES_SERVICE_HOST", "")
    port = environ.get("KUBERNETES_SERVICE_PORT", "")
    if not host or not port:
        problem = "not set: this process does not run in a pod; give a kubeconfig instead"
        raise ConnectionConfigError(None, "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT", problem)
    authority = f"[{host}]" if ":" in host else host
    token_file = folder / "token"
    authorities = folder / "ca.crt"
    ca = _read_account_file(authorities)
    _read_account_file(token_file)
    return Connection(server=f"https://{authority}:{port}", ca=ca, token_file=token_file, origin=authorities)


def _read_account_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConnectionConfigError(path, "service account", f"cannot be read: {error.strerror}") from error
