"""A server of files on this machine, with ranges, that breaks off where a test wants it."""

import hashlib

from web_server import Handler

BODY = bytes(range(256)) * 4_000
SHA256 = hashlib.sha256(BODY).hexdigest()


class Files:
    """Files by path, with ranges; each number of `cuts` ends a reply after so many bytes, once."""

    def __init__(self, files: dict[str, bytes], version: str = '"v8"') -> None:
        self.files, self.version = files, version
        self.cuts: list[int] = []
        self.ranges = True
        self.kind = "application/octet-stream"

    def __call__(self, request: Handler, path: str) -> None:
        body = self.files.get(path.removeprefix("/"))
        if body is None:
            request.reply(404)
            return
        start, asked = 0, request.headers.get("Range", "")
        version = request.headers.get("If-Range", self.version)
        if asked and self.ranges and version == self.version:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
        if start >= len(body):
            request.reply(416, Content_Range=f"bytes */{len(body)}")
            return
        request.send_response(206 if start else 200)
        request.send_header("Content-Length", str(len(body) - start))
        request.send_header("Content-Type", self.kind)
        if self.version:
            request.send_header("ETag", self.version)
        if start:
            request.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        request.end_headers()
        end = start + self.cuts.pop(0) if self.cuts else len(body)
        request.wfile.write(body[start:end])
        request.close_connection = end < len(body)
