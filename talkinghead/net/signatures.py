"""What in a URL's query signs it, and what names the object: the same object is signed anew.

Known are the signatures of stores and CDNs that describe theirs. Anything else is taken for a part
of the name: a `?v=2`, `?id=7` or `?token=…` may well be another file.
"""

from __future__ import annotations

from urllib.parse import unquote_plus, urlsplit, urlunsplit

# A signature of each kind is there if all of `marks` are; it is then all of `parts`.
# In lower case: some clients write them so.
_KINDS: tuple[tuple[frozenset[str], frozenset[str]], ...] = tuple(
    (frozenset(marks.split()), frozenset(f"{marks} {parts}".split()))
    for marks, parts in (
        (  # S3, signature version 4, and who speaks it: R2, B2, MinIO, Spaces, Wasabi
            "x-amz-signature",
            "x-amz-algorithm x-amz-credential x-amz-date x-amz-expires x-amz-signedheaders "
            "x-amz-security-token x-amz-content-sha256",
        ),
        ("signature awsaccesskeyid", "expires x-amz-security-token"),  # S3, version 2
        (  # Google Cloud Storage, version 4
            "x-goog-signature",
            "x-goog-algorithm x-goog-credential x-goog-date x-goog-expires x-goog-signedheaders",
        ),
        ("signature googleaccessid", "expires"),  # Google Cloud Storage, version 2
        ("signature keyname", "expires"),  # Google Cloud CDN
        ("signature key-pair-id", "expires policy hash-algorithm"),  # CloudFront
        (  # Azure Blob Storage, a shared access signature
            "sig sv",
            "se st sp sr spr sip ss srt si skoid sktid skt ske sks skv sdd saoid suoid scid",
        ),
        ("signature ossaccesskeyid", "expires security-token"),  # Alibaba Cloud OSS, version 1
        (  # Alibaba Cloud OSS, version 4
            "x-oss-signature",
            "x-oss-signature-version x-oss-credential x-oss-date x-oss-expires "
            "x-oss-additional-headers x-oss-security-token",
        ),
        (  # Tencent Cloud COS
            "q-signature",
            "q-sign-algorithm q-ak q-sign-time q-key-time q-header-list q-url-param-list "
            "x-cos-security-token",
        ),
    )
)
# Here a lone `token` signs the path, which names the object: Supabase, Firebase.
_SIGNING_PATHS = ("/storage/v1/object/sign/", "/storage/v1/render/image/sign/")
_FIREBASE_HOST = "firebasestorage.googleapis.com"


def without_signature(url: str) -> str:
    """The URL without what signs it; the rest of its query stays as it is."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return url
    pairs = [(_name_of(pair), pair) for pair in parts.query.split("&")]
    signing = _signing({name for name, _ in pairs})
    if host == _FIREBASE_HOST or parts.path.startswith(_SIGNING_PATHS):
        signing |= {"token"}
    if not signing & {name for name, _ in pairs}:
        return url
    query = "&".join(pair for name, pair in pairs if name not in signing)
    return urlunsplit(parts._replace(query=query))


def _name_of(pair: str) -> str:
    return unquote_plus(pair.partition("=")[0]).lower()


def _signing(names: set[str]) -> frozenset[str]:
    """Of the names of a query those that are part of a signature."""
    return frozenset().union(*(parts for marks, parts in _KINDS if marks <= names))
