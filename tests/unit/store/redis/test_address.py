"""REDIS_URL: what it may say, and what is said of one that cannot be used."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workflow_worker.model.exceptions import ConfigurationError
from workflow_worker.model.settings import Settings
from workflow_worker.store.redis.address import Address, Login, Place, parse_address
from workflow_worker.store.redis.tls import Tls


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://h", Address((Place("h", 6379),))),
        ("redis://h:1/", Address((Place("h", 1),))),
        ("redis://h/3", Address((Place("h", 6379),), database=3)),
        ("redis://h?db=3", Address((Place("h", 6379),), database=3)),
        ("redis://[::1]:7/2", Address((Place("::1", 7),), database=2)),
        ("redis://:p@h", Address((Place("h", 6379),), Login(None, "p"))),
        ("redis://u:p%40%2F%23@h", Address((Place("h", 6379),), Login("u", "p@/#"))),
        ("redis://h?username=u&password=p", Address((Place("h", 6379),), Login("u", "p"))),
        ("redis://h?client_name=me", Address((Place("h", 6379),), client_name="me")),
        ("rediss://h", Address((Place("h", 6379),), tls=Tls())),
        ("unix:///tmp/a%20b.sock?db=2", Address((Place(path="/tmp/a b.sock"),), database=2)),
        ("unix://u:p@/s", Address((Place(path="/s"),), Login("u", "p"))),
        (
            "redis+sentinel://a,b:2,[::1]:3/shop",
            Address((Place("a", 26379), Place("b", 2), Place("::1", 3)), service="shop"),
        ),
        (
            "redis+sentinel://u:p@a,b/shop.main/4?sentinel_username=s&sentinel_password=q",
            Address(
                (Place("a", 26379), Place("b", 26379)),
                Login("u", "p"),
                database=4,
                service="shop.main",
                sentinel_login=Login("s", "q"),
            ),
        ),
        ("rediss+sentinel://a/shop", Address((Place("a", 26379),), tls=Tls(), service="shop")),
    ],
)
def test_what_may_be_written(url: str, address: Address) -> None:
    assert parse_address(url) == address
    assert Settings.from_mapping({"REDIS_URL": url}).redis_url == url


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://:hunter2@h/0", "none of these schemes"),
        ("nonsense", "none of these schemes"),
        ("redis://", "a host is missing"),
        ("unix://", "path of the socket"),
        ("redis://:hunter2@h:0/0", "1 to 65535, not 0"),
        ("redis://:hunter2@h:99999/0", "1 to 65535, not 99999"),
        ("redis://:hunter2@h:x/0", "is none"),
        ("redis://:hunter2@h/abc", "database is a number, not 'abc'"),
        ("redis://:hunter2@h/0/1", "database is a number"),
        ("redis://:hunter2@h?db=-1", "database is a number"),
        ("redis://:hunter2@h/0?socket_timeout=9", "'socket_timeout' is not supported"),
        ("redis://:hunter2@h/0?retry_on_timeout=1", "'retry_on_timeout' is not supported"),
        ("redis://:hunter2@h?sentinel_password=hunter2", "'sentinel_password' is not supported"),
        ("redis://:hunter2@h?ssl_ca_certs=x", "is for rediss://"),
        ("redis://:hunter2@h?password=hunter2&password=hunter2", "there twice"),
        ("rediss://:hunter2@h?ssl_cert_reqs=maybe", "ssl_cert_reqs is required or none"),
        ("rediss://:hunter2@h?ssl_min_version=SSLv3", "ssl_min_version is TLSv1.2 or TLSv1.3"),
        ("redis://h/0#x", "'#'"),
        ("redis://:hunter2@a,b/0", "for sentinels"),
        ("redis+sentinel://:hunter2@a,b", "name under which the sentinels know"),
        ("redis+sentinel://:hunter2@a,b/0/shop", "database is a number"),
        ("redis+sentinel://:hunter2@a,,b/shop", "a host is missing"),
        ("redis+sentinel://:hunter2@a:26379:1/shop", "is none"),
        ("redis+sentinel://:hunter2@/shop", "a host is missing"),
        ("redis+sentinel://:hunter2@a/sh op", "letters"),
        ("redis://:hunter2", "is none"),
        ("redis://@", "a host is missing"),
        ("redis://me:hunter2", "is none"),
        ("redis://me:hunter2/0", "is none"),
        ("redis://[::1", "REDIS_URL"),
    ],
)
def test_what_cannot_be_used_is_said_without_a_password(url: str, why: str) -> None:
    with pytest.raises(ConfigurationError, match="REDIS_URL") as caught:
        parse_address(url)
    assert why in str(caught.value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None


@given(st.text(max_size=30), st.sampled_from(["redis://", "unix://", "redis+sentinel://", "rediss://h?", ""]))
def test_any_text_is_parsed_or_refused(text: str, scheme: str) -> None:
    with contextlib.suppress(ConfigurationError):
        assert parse_address(scheme + text).places


def test_no_password_is_ever_shown() -> None:
    url = "rediss+sentinel://u:hunter2@a,b/shop?sentinel_password=hunter3&ssl_password=hunter4"
    assert not {"hunter2", "hunter3", "hunter4"} & set(repr(parse_address(url)).replace("'", " ").split())
    settings = Settings.from_mapping({"REDIS_URL": url})
    assert "hunter" not in str(settings)
    assert set(settings.secrets()) == {"hunter2", "hunter3", "hunter4"}


@pytest.mark.parametrize("port", ["99999", "26379,b:70000"])
def test_settings_refuse_a_port_of_a_sentinel_that_cannot_be(port: str) -> None:
    with pytest.raises(ConfigurationError, match="REDIS_URL"):
        Settings.from_mapping({"REDIS_URL": f"redis+sentinel://:hunter2@a:{port}/shop"})


def test_certificates_and_host_names_are_checked_unless_the_url_says_otherwise() -> None:
    context = Tls().context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    options = {"ssl_cert_reqs": "none", "ssl_min_version": "TLSv1.3", "ssl_ciphers": "HIGH"}
    context = Tls.from_options(options).context()
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_NONE, False)
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert not Tls.from_options({"ssl_check_hostname": "no"}).context().check_hostname


@pytest.mark.parametrize("option", ["ssl_ca_certs", "ssl_certfile"])
def test_a_file_that_is_not_there_is_the_operators(option: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="certificates"):
        Tls.from_options({option: str(tmp_path / "none.pem")}).context()
