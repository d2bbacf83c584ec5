"""etcd behind TLS and with users: one real member, with a certificate that it made itself."""

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from ops.local import etcd
from shared.adapters.etcd import EtcdStore
from shared.clock import SystemClock
from shared.ports import Put, Refused, Unavailable
from shared.vocabulary.node import EtcdAddress
from tests.support.processes import HOST, Child, free_ports, temporary_directory, until

pytestmark = pytest.mark.timeout(120)

PASSWORD = "correct horse"


@dataclass
class SecureMember:
    """Speaks only TLS to clients; `child` may be restarted."""

    argv: list[str]
    directory: Path
    port: int
    child: Child

    @property
    def certificate(self) -> Path:
        return self.directory / "data" / "fixtures" / "client" / "cert.pem"

    def address(self, **more: object) -> EtcdAddress:
        tls = {"ca_file": str(self.certificate)}
        return EtcdAddress.model_validate({"endpoints": (f"{HOST}:{self.port}",), "tls": tls, **more})

    def etcdctl(self, *words: str) -> None:
        argv = [str(etcd.binary().with_name("etcdctl")), f"--endpoints=https://{HOST}:{self.port}"]
        subprocess.run(
            [*argv, f"--cacert={self.certificate}", *words], check=True, capture_output=True, timeout=20
        )

    def restart(self) -> None:
        self.child.stop()
        self.child = Child(self.argv, log=self.directory / "log", env=etcd.member_env(os.environ))


@asynccontextmanager
async def secure_member() -> AsyncIterator[SecureMember]:
    with temporary_directory("etcd-tls") as directory:
        port, peer = free_ports(2)
        argv = etcd.member_argv("one", port, peer, {"one": peer}, directory / "data", new=True, fsync=False)
        plain = f"client-urls=http://{HOST}:{port}"
        argv = [word.replace(plain, plain.replace("http:", "https:")) for word in argv] + ["--auto-tls"]
        child = Child(argv, log=directory / "log", env=etcd.member_env(os.environ))
        member = SecureMember(argv, directory, port, child)
        try:
            await until(lambda: _exists(member.certificate), within_s=30, what="the certificate")
            yield member
        finally:
            member.child.stop()


async def _exists(path: Path) -> bool:
    return path.exists()


async def write(store: EtcdStore, key: str) -> None:
    """Until the member is up."""

    async def written() -> bool:
        try:
            return (await store.commit((), [Put(key, b"v")])).succeeded
        except Unavailable:
            return False

    await until(written, within_s=30, what="a write is taken", every_s=0.1)


async def test_users_and_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the right authority and password all works, also after the token was forgotten; with others it is refused."""
    monkeypatch.setenv("LEEWARD_TEST_ETCD", PASSWORD)
    monkeypatch.setenv("LEEWARD_TEST_WRONG", "battery staple")
    clock = SystemClock()
    async with secure_member() as member:
        anonymous = EtcdStore(member.address(), clock=clock)
        known = EtcdStore(member.address(username="root", password="env:LEEWARD_TEST_ETCD"), clock=clock)
        wrong = EtcdStore(member.address(username="root", password="env:LEEWARD_TEST_WRONG"), clock=clock)
        absent = EtcdStore(member.address(username="root", password="env:LEEWARD_TEST_ABSENT"), clock=clock)
        untrusting = EtcdStore(member.address(tls={}), clock=clock)
        stores = (anonymous, known, wrong, absent, untrusting)
        try:
            await write(anonymous, "before")
            member.etcdctl("user", "add", f"root:{PASSWORD}")
            member.etcdctl("user", "grant-role", "root", "root")
            member.etcdctl("auth", "enable")
            for store in (anonymous, wrong, absent):
                with pytest.raises(Refused):
                    await store.get("before")
            with pytest.raises(Unavailable):
                await untrusting.get("before")
            assert (await known.get("before"))[0] is not None
            member.restart()  # tokens live in the member's memory
            await write(known, "after")
            watch = known.watch("after", from_revision=1)
            await anext(watch)
            assert (await anext(watch)).changes[-1].value == b"v"
            await watch.aclose()
            lease = await known.grant(30)
            assert await known.keep_alive(lease) == 30
        finally:
            for store in stores:
                await store.close()


def test_unusable_tls_files_are_refused(tmp_path: Path) -> None:
    """Said at once, by name, before anything is connected."""
    address = EtcdAddress.model_validate(
        {"endpoints": (f"{HOST}:1",), "tls": {"ca_file": str(tmp_path / "absent.pem")}}
    )
    with pytest.raises(Refused, match=r"absent\.pem"):
        EtcdStore(address, clock=SystemClock())
