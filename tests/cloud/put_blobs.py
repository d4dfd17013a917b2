"""Makes a container in Azurite and writes the files below a folder into it: PORT FOLDER."""

import base64
import email.utils
import hashlib
import hmac
import http.client
import os
import sys
import urllib.parse

# The emulator's own account, which is public.
ACCOUNT = "devstoreaccount1"
KEY = base64.b64decode("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==")


def put(port, path, query, headers, body=b""):
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-12-02", **headers}
    names = "".join(f"{k}:{v}\n" for k, v in sorted(headers.items()))
    resource = f"/{ACCOUNT}/{ACCOUNT}{path}" + "".join(f"\n{k}:{v}" for k, v in sorted(query.items()))
    fields = ["PUT", "", "", str(len(body) or ""), "", "", "", "", "", "", "", ""]
    text = "\n".join(fields) + "\n" + names + resource
    signature = base64.b64encode(hmac.new(KEY, text.encode(), hashlib.sha256).digest()).decode()
    headers |= {"Authorization": f"SharedKey {ACCOUNT}:{signature}", "Content-Length": str(len(body))}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("PUT", f"/{ACCOUNT}{path}?{urllib.parse.urlencode(query)}", body, headers)
    answer = connection.getresponse()
    if answer.status != 201:
        sys.exit(f"{path}: {answer.status} {answer.read()!r}")


port, folder = int(sys.argv[1]), sys.argv[2]
put(port, "/media", {"restype": "container"}, {})
for name in sorted(os.listdir(folder)):
    with open(os.path.join(folder, name), "rb") as file:
        put(port, f"/media/raw/{name}", {}, {"x-ms-blob-type": "BlockBlob"}, file.read())
