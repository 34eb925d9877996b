"""Keys, units, clock, configuration and errors: what every other room stands on.

The error tree has too many names for a front door; it is :mod:`tirami.core.errors`.
"""

from tirami.core.clock import Clock, SystemClock
from tirami.core.config import (
    ApiConfig,
    AuthConfig,
    Config,
    InferConfig,
    JournalConfig,
    KeystoreConfig,
    LogConfig,
    NetworkConfig,
    Origin,
    PricingConfig,
    load_config,
)
from tirami.core.errors import TiramiError
from tirami.core.keyfile import load_or_create_node_key
from tirami.core.keys import (
    Digest,
    NodeId,
    PublicKey,
    Signature,
    Signer,
    SigningKey,
    hkdf,
    local_user_key,
    parse_node_id,
    sha256,
    verify,
)
from tirami.core.keystore import Keystore
from tirami.core.secretfile import read_secret, write_secret
from tirami.core.units import FLOP_PER_TRM, MICRO, Flop, MicroTrm, Ppm, TokenCount, Trm, UnixMs, ceil_div

__all__ = [
    "FLOP_PER_TRM",
    "MICRO",
    "ApiConfig",
    "AuthConfig",
    "Clock",
    "Config",
    "Digest",
    "Flop",
    "InferConfig",
    "JournalConfig",
    "Keystore",
    "KeystoreConfig",
    "LogConfig",
    "MicroTrm",
    "NetworkConfig",
    "NodeId",
    "Origin",
    "Ppm",
    "PricingConfig",
    "PublicKey",
    "Signature",
    "Signer",
    "SigningKey",
    "SystemClock",
    "TiramiError",
    "TokenCount",
    "Trm",
    "UnixMs",
    "ceil_div",
    "hkdf",
    "load_config",
    "load_or_create_node_key",
    "local_user_key",
    "parse_node_id",
    "read_secret",
    "sha256",
    "verify",
    "write_secret",
]
