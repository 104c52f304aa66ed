"""Which bucket the environment names: three families of variables, in one order, never mixed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from talkinghead.bucket import Bucket
from talkinghead.comfy.process import CREDENTIAL_PREFIXES
from talkinghead.settings import Settings

S3 = {"S3_BUCKET": "b1", "S3_REGION": "eu-west-1", "S3_KEY": "k1", "S3_SECRET": "canary-1"}
RUNPOD = {
    "BUCKET_ENDPOINT_URL": "https://b2.s3.us-west-2.amazonaws.com",
    "BUCKET_ACCESS_KEY_ID": "k2",
    "BUCKET_SECRET_ACCESS_KEY": "canary-2",
}
AWS = {
    "AWS_ACCESS_KEY_ID": "k3",
    "AWS_SECRET_ACCESS_KEY": "canary-3",
    "AWS_DEFAULT_REGION": "eu-north-1",
}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


def bucket(environment: pytest.MonkeyPatch, *families: dict[str, str], **more: str) -> Bucket:
    for name, value in {k: v for family in (*families, more) for k, v in family.items()}.items():
        environment.setenv(name, value)
    found = Settings().bucket
    assert found is not None
    return found


def opened_by(found: Bucket) -> tuple[str, str, str]:
    return found.name, found.key.get_secret_value(), found.secret.get_secret_value()


def test_our_own_names_go_first(environment: pytest.MonkeyPatch) -> None:
    found = bucket(environment, S3, RUNPOD, AWS, AWS_ENDPOINT_URL="https://elsewhere")
    assert opened_by(found) == ("b1", "k1", "canary-1")
    assert (found.region, found.endpoint, found.token) == ("eu-west-1", None, None)


def test_runpods_names_go_second(environment: pytest.MonkeyPatch) -> None:
    found = bucket(environment, RUNPOD, AWS)
    assert opened_by(found) == ("b2", "k2", "canary-2")
    assert found.endpoint == "https://s3.us-west-2.amazonaws.com"
    assert found.region == "us-west-2"


def test_awss_names_go_last_and_need_the_name_of_a_bucket(environment: pytest.MonkeyPatch) -> None:
    found = bucket(environment, AWS, S3_BUCKET="b3", AWS_SESSION_TOKEN="token")
    assert opened_by(found) == ("b3", "k3", "canary-3")
    assert (found.region, found.endpoint) == ("eu-north-1", None)
    assert found.token is not None and found.token.get_secret_value() == "token"
    environment.delenv("S3_BUCKET")
    assert Settings().bucket is None


def test_awss_endpoint_for_s3_goes_before_the_one_for_all(environment: pytest.MonkeyPatch) -> None:
    more = {"AWS_ENDPOINT_URL": "https://all", "AWS_ENDPOINT_URL_S3": "https://s3.example.com"}
    assert bucket(environment, AWS, more, BUCKET_NAME="b").endpoint == "https://s3.example.com"


@pytest.mark.parametrize(
    ("url", "host", "name", "region"),
    [
        ("https://b.s3.amazonaws.com", "s3.amazonaws.com", "b", "us-east-1"),
        ("https://b.x.s3.eu-w-3.amazonaws.com/", "s3.eu-w-3.amazonaws.com", "b.x", "eu-w-3"),
        ("https://s3.us-west-004.b2.com/b", "s3.us-west-004.b2.com", "b", "us-west-004"),
        ("https://b.nyc3.digitaloceanspaces.com", "nyc3.digitaloceanspaces.com", "b", "nyc3"),
        ("https://0a.r2.cloudflarestorage.com/b", "0a.r2.cloudflarestorage.com", "b", "us-east-1"),
        ("https://b.0a.r2.cloudflarestorage.com", "0a.r2.cloudflarestorage.com", "b", "us-east-1"),
        ("https://minio.lan:9000/b", "minio.lan:9000", "b", "us-east-1"),
    ],
)
def test_runpods_endpoint_may_name_the_bucket_in_host_or_path(
    environment: pytest.MonkeyPatch, url: str, host: str, name: str, region: str
) -> None:
    found = bucket(environment, RUNPOD, BUCKET_ENDPOINT_URL=url)
    assert (found.endpoint, found.name, found.region) == (f"https://{host}", name, region)


@pytest.mark.parametrize("url", ["https://minio.lan", "https://b.minio.lan", "https://minio.lan/b"])
def test_runpods_bucket_may_be_named_apart(environment: pytest.MonkeyPatch, url: str) -> None:
    found = bucket(environment, RUNPOD, BUCKET_ENDPOINT_URL=url, BUCKET_NAME="b")
    assert (found.endpoint, found.name) == ("https://minio.lan", "b")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (S3 | {"S3_SECRET": ""}, "half configured: S3_SECRET not set"),
        (S3 | {"S3_SECRET": ""} | AWS, "half configured: S3_SECRET not set"),
        (S3 | {"S3_KEY": "", "S3_SECRET": ""}, "half configured: S3_KEY, S3_SECRET not set"),
        (RUNPOD | {"BUCKET_ACCESS_KEY_ID": ""}, "half configured: BUCKET_ACCESS_KEY_ID not set"),
        ({"BUCKET_NAME": "b"}, "BUCKET_ENDPOINT_URL, BUCKET_ACCESS_KEY_ID, BUCKET_SECRET_ACCESS_K"),
        (RUNPOD | {"BUCKET_ENDPOINT_URL": "https://minio.lan"}, "BUCKET_NAME is not set"),
        (RUNPOD | {"BUCKET_NAME": "other"}, "names the bucket b2, and BUCKET_NAME other"),
        (RUNPOD | {"BUCKET_ENDPOINT_URL": "minio.lan"}, "is not an http:// or https:// URL"),
        (AWS | {"S3_BUCKET": "b", "AWS_DEFAULT_REGION": ""}, "half configured: AWS_REGION not set"),
    ],
)
def test_half_a_configuration_is_refused_at_start_without_a_secret(
    environment: pytest.MonkeyPatch, given: dict[str, str], message: str
) -> None:
    with pytest.raises(ValidationError) as caught:
        bucket(environment, given)
    assert message in str(caught.value)
    assert "canary" not in str(caught.value)


def test_comfyui_gets_none_of_these_variables() -> None:
    secret = [n.upper() for n in Settings.model_fields if n.startswith(("s3_", "bucket_", "aws_"))]
    assert len(secret) > 10
    assert [name for name in secret if not name.startswith(CREDENTIAL_PREFIXES)] == []
