"""TLS of the HTTP server: checked at start, and taken up anew when somebody renews the certificate."""

import asyncio
import ssl
from pathlib import Path
from typing import Self

import structlog
from cryptography import x509
from cryptography.x509.oid import NameOID

from tirami.core.config import ApiConfig
from tirami.core.errors import ConfigError, StartError
from tirami.core.secretfile import read_secret

FOLLOW_EVERY_S = 30.0
_log = structlog.get_logger()


class Tls:
    """A certificate, its key and the context that serves them: TLS 1.2 or later."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.certificate = certificate
        self._key = key
        self._seen = self._written()
        self.context = _context(certificate, key)

    @classmethod
    def of(cls, config: ApiConfig) -> Self | None:
        """``None`` when the settings name no certificate.

        Raises:
            KeyFileError: the key can be read by others, or by nobody.
            ConfigError: one file without the other, a file that is none, two that do not belong together.
        """
        if not config.tls_cert and not config.tls_key:
            return None
        for key, value in (("api.tls_cert", config.tls_cert), ("api.tls_key", config.tls_key)):
            if not value:
                raise ConfigError(f"{key} is missing: HTTPS needs a certificate and its key", param=key)
        return cls(Path(config.tls_cert).absolute(), Path(config.tls_key).absolute())

    @property
    def server_name(self) -> str:
        """The first name the certificate is for, host or address."""
        leaf = x509.load_pem_x509_certificate(self.certificate.read_bytes())
        try:
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except x509.ExtensionNotFound:
            common = leaf.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            return str(common[0].value) if common else ""
        hosts = [name for name in names.get_values_for_type(x509.DNSName) if not name.startswith("*")]
        wild = [name.replace("*", "node", 1) for name in names.get_values_for_type(x509.DNSName)]
        return [*hosts, *wild, *map(str, names.get_values_for_type(x509.IPAddress)), ""][0]

    async def follow(self) -> None:
        """Until cancelled: load the files when they have changed. Connections that stand keep what they have."""
        while True:
            await asyncio.sleep(FOLLOW_EVERY_S)
            self.renew()

    def renew(self) -> bool:
        """Whether changed files were taken up. Half-written or wrong ones are logged and the old pair stays."""
        now = self._written()
        if now == self._seen:
            return False
        try:
            _context(self.certificate, self._key)  # first on a trial context: loading is not atomic
            self.context.load_cert_chain(self.certificate, self._key)
        except (StartError, OSError) as error:
            _log.warning("tls_not_renewed", certificate=str(self.certificate), reason=str(error))
            return False
        self._seen = now
        _log.info("tls_renewed", certificate=str(self.certificate))
        return True

    def _written(self) -> tuple[int, ...]:
        times = []
        for path in (self.certificate, self._key):
            try:
                times.append(path.stat().st_mtime_ns)
            except OSError:
                times.append(0)
        return tuple(times)


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    read_secret(key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except FileNotFoundError as error:
        raise ConfigError(f"{certificate} cannot be read: {error.strerror}", param="api.tls_cert") from error
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise ConfigError(
            f"{certificate} and {key} are no PEM certificate and its key: {reason}", param="api.tls_cert"
        ) from error
    return context


def _no_passphrase() -> str:
    raise ConfigError("the key of the certificate must not need a passphrase", param="api.tls_key")
