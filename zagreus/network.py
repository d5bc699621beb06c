"""Variables of the host's environment that programs with a network take into the images."""

from __future__ import annotations

import os
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from zagreus.credentials import read_token
from zagreus.errors import InputError

# The hub's client: its address, and how long it waits, in seconds.
HUB = (
    "HF_ENDPOINT",
    "HF_HUB_DOWNLOAD_TIMEOUT",
    "HF_HUB_ETAG_TIMEOUT",
    "HF_HUB_DISABLE_XET",
    "HF_HUB_DISABLE_IMPLICIT_TOKEN",
)
PROXIES = tuple(
    spelling
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    for spelling in (name, name.upper())
)
# Certificates of a site's own authority. The hub's client reads the first two alone.
CERTIFICATES = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
PROGRAMS = ("APPTAINER", "SINGULARITY")


def host_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return the variables of the host that a job on the network needs, an image's job too.

    The token has one name and no white space around it. One of a wrong shape goes along as it is:
    whoever uses it says so.
    """
    variables = {
        name: value
        for name in (*HUB, *PROXIES, *CERTIFICATES)
        if (value := environment.get(name, "").strip())
    }
    try:
        token = read_token(environment)
    except InputError:
        token = environment.get("HF_TOKEN") or environment.get("HUGGING_FACE_HUB_TOKEN")
    if token:
        variables["HF_TOKEN"] = token
    return variables


def binds(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Return the certificates' files and folders, which an image does not see by itself.

    Absolute paths.

    A path with a comma or a colon cannot be bound, and one that is not there needs no binding.
    """
    paths = [Path(environment[name]) for name in CERTIFICATES if environment.get(name, "").strip()]
    existing = {
        path
        for path in paths
        if path.is_absolute() and path.exists() and not set(",:") & set(str(path))
    }
    return sorted(str(path) for path in existing if not existing & set(path.parents))


def into_images(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let `host_variables` and `binds` reach the images that this process and its jobs enter.

    By the environment, never by a command line: other users of the machine can read those.
    """
    variables = host_variables(environment)
    if "HF_TOKEN" in variables:
        environment["HF_TOKEN"] = variables["HF_TOKEN"]
    for program in PROGRAMS:
        for name, value in variables.items():
            environment[f"{program}ENV_{name}"] = value
        bindings = [bound for bound in environment.get(f"{program}_BIND", "").split(",") if bound]
        bindings += [
            f"{path}:{path}:ro"
            for path in binds(environment)
            if f"{path}:{path}:ro" not in bindings
        ]
        if bindings:
            environment[f"{program}_BIND"] = ",".join(bindings)


def use_certificates(environment: MutableMapping[str, str] = os.environ) -> None:
    """Let the hub's client read what sites set for other clients (requests, curl).

    Raises:
        InputError: a variable names a file or folder that is not there.
    """
    for name in CERTIFICATES:
        if (path := environment.get(name, "").strip()) and not Path(path).exists():
            raise InputError(
                f"{name}: no such file '{path}', expected the certificates of an authority"
            )
    bundle = environment.get("REQUESTS_CA_BUNDLE") or environment.get("CURL_CA_BUNDLE")
    if bundle and not environment.get("SSL_CERT_FILE") and not environment.get("SSL_CERT_DIR"):
        environment["SSL_CERT_DIR" if Path(bundle).is_dir() else "SSL_CERT_FILE"] = bundle
