"""
Who may send, according to the gateway's file: the proofs that each source requires.

Secrets, keys and certificates are files; the gateway's file names them and never contains them.
"""

from __future__ import annotations

from typing import Final, Literal

from pydantic import Field, ValidationInfo, field_validator

from syncer.configfile import Group, Names

#: The kinds of proof.
_PROOFS: Final = ("bearer", "basic", "signature", "token_review", "client_certificate")
_OR: Final = "bearer, basic, signature, tokenReview and clientCertificate"


class BearerSettings(Group):
    """A token in the header Authorization."""

    token_files: Names = Field(
        min_length=1,
        description="Files with one token each, any of which is accepted: list the old and the new one "
        "while you replace it. Changes take effect while the gateway runs.",
    )


class BasicSettings(Group):
    """A user and a password in the header Authorization."""

    user: str = Field(min_length=1, description="The user.")
    password_files: Names = Field(
        min_length=1, description="Files with one password each; any of them is accepted."
    )


class SignatureSettings(Group):
    """A signature of the body (HMAC with SHA-256)."""

    scheme: Literal["flux", "github", "grafana", "standard-webhooks"] = Field(
        description="flux (generic-hmac), github, grafana, or standard-webhooks.",
    )
    key_files: Names = Field(
        min_length=1, description="Files with one key each; any of them is accepted."
    )
    header: str = Field(
        default="",
        max_length=100,
        description="The header with the signature; default: the scheme's.",
    )
    timestamp_header: str = Field(
        default="", max_length=100,
        description="Grafana: the header with the signed time; default: none. Set it on both sides, or "
        "requests can be replayed for ever.",
    )  # fmt: skip


class TokenReviewSettings(Group):
    """A token of Kubernetes in the header Authorization, which the API server reviews."""

    audiences: Names = Field(
        default=("notification-gateway",), min_length=1,
        description="For any of which the token must have been issued: one for the API server itself would "
        "let its receiver use it there. Whose it is must have the right `create` on "
        "`notificationrequests/gateway` (`kubernaut.ai`), with the source as resourceName, in each "
        "namespace of the source. An answer holds for a minute, a refusal for ten seconds.",
    )  # fmt: skip


class ClientCertificateSettings(Group):
    """A certificate of the client (mTLS); needs `tls`."""

    ca_files: Names = Field(
        min_length=1,
        description="Files with the authorities that vouch for it, in PEM. They are followed while the "
        "gateway runs.",
    )
    names: Names = Field(
        default=(),
        description="One of which it must bear, each with its kind: `uri:spiffe://cluster/ns/monitoring/sa/"
        "alertmanager`, `dns:NAME`, `email:ADDRESS`, `ip:ADDRESS`, `cn:NAME`. Default: whatever these "
        "authorities have signed.",
    )  # fmt: skip

    @field_validator("names")
    @classmethod
    def _kinds(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            kind, colon, value = name.partition(":")
            if kind not in {"cn", "dns", "uri", "email", "ip"} or not (colon and value):
                raise ValueError("must each begin with cn:, dns:, uri:, email: or ip:")
        return names


class AuthSettings(Group):
    """Who may send. At least one proof is required, and all that are set must hold."""

    bearer: BearerSettings | None = Field(default=None, description="A bearer token.")
    basic: BasicSettings | None = Field(default=None, description="Basic authentication.")
    signature: SignatureSettings | None = Field(default=None, description="A signature.")
    token_review: TokenReviewSettings | None = Field(
        default=None, description="A token of Kubernetes."
    )
    client_certificate: ClientCertificateSettings | None = Field(
        default=None, description="A certificate of the client."
    )
    insecure: bool = Field(
        default=False,
        description="Accept requests from anybody who reaches the port, and so can have people paged.",
    )

    @field_validator("insecure")
    @classmethod
    def _one(cls, insecure: bool, info: ValidationInfo) -> bool:
        given = [kind for kind in _PROOFS if info.data.get(kind)]
        if bool(given) == insecure:
            raise ValueError(
                f"excludes {_OR} and every other proof"
                if insecure
                else f"one of {_OR} is required, or `auth: {{insecure: true}}`"
            )
        if len({"bearer", "basic", "token_review"} & set(given)) > 1:
            raise ValueError(
                "bearer, basic and tokenReview exclude each other: they share a header"
            )
        return insecure
