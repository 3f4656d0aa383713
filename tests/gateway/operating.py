"""The rooms of operators on a store in memory, with a real CA and a clock that a test moves."""

from __future__ import annotations

import base64
import random
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from palyra.config.addresses import HostPort
from palyra.console import models
from palyra.console.sessions import BrowserSessions
from palyra.console.webadmission import WebAdmission
from palyra.core.auditlog import AuditQuery
from palyra.core.identifiers import Fingerprint
from palyra.core.operator_uri import OperatorUri, enrolment_payload
from palyra.core.operators import Caller, Role
from palyra.core.pairing_uri import spell_token
from palyra.gateway.operatorcontrol import CSR_NAME, OperatorControl
from palyra.gateway.operators import OperatorRegistry
from palyra.gateway.signin import SignIn, SignInTries
from palyra.pki.authority import Authority
from palyra.pki.csr import make_csr
from palyra.store.memory import MemoryStore
from tests.gateway.house import result_of
from tests.store.samples import NOW_MS

ANA = Caller("local:1000", "ana", Role.ADMIN, "console.sock")
STRANGER = Caller("", "", None, "192.0.2.7")
TRUST_DOMAIN = "palyra.test"


class Cas:
    """The CAs of a gateway: the first one issues."""

    def __init__(self, entropy: Any) -> None:
        self._entropy = entropy
        self.authorities = [self.another()]

    def another(self) -> Authority:
        """One more CA."""
        return Authority.create(trust_domain=TRUST_DOMAIN, now_ms=NOW_MS, entropy=self._entropy)

    @property
    def issuing(self) -> Authority:
        return self.authorities[0]

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        return tuple(each.ca_certificate for each in self.authorities)

    @property
    def ca_bundle_pem(self) -> bytes:
        return b"".join(each.ca_pem for each in self.authorities)

    @property
    def ca_hashes(self) -> tuple[bytes, ...]:
        return tuple(bytes.fromhex(each.ca_hash) for each in self.authorities)


class Person:
    """Somebody with a key of their own."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.csr_der = make_csr(self.key, CSR_NAME)
        self.certificate: x509.Certificate

    @property
    def csr(self) -> str:
        """The CSR as it is sent."""
        return x509.load_der_x509_csr(self.csr_der).public_bytes(Encoding.PEM).decode()

    def accepts(self, uri: str) -> models.EnrolOperator:
        """What accepting an invitation sends."""
        line = OperatorUri.parse(uri)
        payload = enrolment_payload(line.ca, line.token, self.csr_der)
        signature = self.key.sign(payload, ec.ECDSA(hashes.SHA256()))
        return models.EnrolOperator(
            spell_token(line.token), self.csr, base64.b64encode(signature).decode()
        )

    def has(self, answer: models.OperatorCertificateAnswer) -> None:
        """The certificate has come."""
        self.certificate = x509.load_pem_x509_certificate(answer.certificate_pem.encode())


class Operating:
    """Everything about operators; ``passes`` moves both clocks."""

    def __init__(self) -> None:
        self.entropy = random.Random(7).randbytes
        self.now_ms = NOW_MS
        self.store = MemoryStore(now_ms=lambda: self.now_ms, entropy=self.entropy)
        self.cas = Cas(self.entropy)
        self.ended: list[Any] = []
        self.dropped: list[Any] = []
        self.published = 0
        self.origin = "https://atlas:7142"
        self.address: HostPort | None = HostPort("atlas", 7142)
        self.refusals: list[tuple[str, str]] = []
        self.begin()

    def begin(self) -> None:
        """A gateway starts on the store."""
        self.registry = OperatorRegistry(
            roots=lambda: self.cas.roots,
            issuing=lambda: Fingerprint(self.cas.issuing.ca_hash),
            trust_domain=TRUST_DOMAIN,
            local_names={"local:0": "root", "local:1000": "ana"},
            now_ms=lambda: self.now_ms,
            unconfirmed_since_ms=lambda: self.store.unconfirmed_since_ms,
        )
        operators = result_of(self.store.operators())
        certificates = result_of(self.store.operator_certificates())
        self.registry.load(operators, certificates)
        self.browser = BrowserSessions(self.entropy)
        common: dict[str, Any] = {
            "registry": self.registry,
            "browser": self.browser,
            "tries": SignInTries(lambda: self.now_ms, self._refuse),
            "hang_up": self.ended.append,
            "entropy": self.entropy,
            "now_ms": lambda: self.now_ms,
        }
        self.sign_in: Any = SignIn(
            record=self.store.record,
            drop=self.dropped.append,
            origin=lambda: self.origin,
            fingerprint=lambda: "9f3c",
            gateway_name="atlas",
            elapsed_ms=lambda: self.now_ms,
            **common,
        )
        self.control = OperatorControl(
            store=self.store,
            sign_in=self.sign_in,
            trust=self.cas,
            ca_hash=lambda: self.cas.authorities[-1].ca_hash,
            published=self._publish,
            address=lambda: self.address,
            **common,
        )
        self.admission: Any = WebAdmission(
            self.registry,
            self.browser,
            elapsed_ms=lambda: self.now_ms,
            refused=self._refuse,
        )

    def _refuse(self, reason: str, via: str) -> None:
        self.refusals.append((reason, via))

    def _publish(self) -> None:
        self.published += 1

    def passes(self, ms: int) -> None:
        """Time goes on."""
        self.now_ms += ms

    def invited(self, name: str = "bo", role: str = "operator", owner: str = "") -> str:
        """The URI of a new invitation."""
        body = models.InviteOperator(name, role, owner)
        return result_of(self.control.invite(body, ANA)).uri

    def enrolled(self, name: str = "bo", role: str = "operator", owner: str = "") -> Person:
        """Somebody who has accepted one."""
        person = Person()
        body = person.accepts(self.invited(name, role, owner))
        person.has(result_of(self.control.enrol(body, STRANGER)))
        return person

    def hung_up(self, caller: Caller) -> bool:
        """Whether the streams of a caller were ended; asked once."""
        found = any(of(caller) for of in self.ended)
        self.ended.clear()
        return found

    def told(self) -> list[str]:
        """The audit log: who, what, on whom."""
        page = result_of(self.store.audit_rows(AuditQuery(100, after_seq=0)))
        lines = [
            row.line for row in page.rows if row.line.action.startswith(("operator", "session"))
        ]
        return [f"{each.who} {each.action} {each.subject_name}" for each in lines]
