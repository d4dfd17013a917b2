"""Works on a container `media` in Azurite.

PORT put FOLDER     makes the container and writes the folder's files below raw/
PORT digests NAME   prints digest and name of every blob below NAME/, without that before it
"""

import base64
import email.utils
import hashlib
import hmac
import http.client
import os
import sys
import urllib.parse
import xml.etree.ElementTree

# The emulator's own account, which is public.
ACCOUNT = "devstoreaccount1"
KEY = base64.b64decode("Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==")


def ask(method, port, path, query, headers=(), body=b""):
    headers = {"x-ms-date": email.utils.formatdate(usegmt=True), "x-ms-version": "2021-12-02", **dict(headers)}
    path = urllib.parse.quote(path)
    names = "".join(f"{k}:{v}\n" for k, v in sorted(headers.items()))
    resource = f"/{ACCOUNT}/{ACCOUNT}{path}" + "".join(f"\n{k}:{v}" for k, v in sorted(query.items()))
    fields = [method, "", "", str(len(body) or ""), "", "", "", "", "", "", "", ""]
    text = "\n".join(fields) + "\n" + names + resource
    signature = base64.b64encode(hmac.new(KEY, text.encode(), hashlib.sha256).digest()).decode()
    headers |= {"Authorization": f"SharedKey {ACCOUNT}:{signature}", "Content-Length": str(len(body))}
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request(method, f"/{ACCOUNT}{path}?{urllib.parse.urlencode(query)}", body, headers)
    answer = connection.getresponse()
    content = answer.read()
    if answer.status not in (200, 201):
        sys.exit(f"{path}: {answer.status} {content!r}")
    return content


def names(port, prefix):
    marker = ""
    while True:
        query = {"restype": "container", "comp": "list", "prefix": prefix, "maxresults": "100"}
        page = ask("GET", port, "/media", query | ({"marker": marker} if marker else {}))
        page = xml.etree.ElementTree.fromstring(page)
        yield from (name.text for name in page.iter("Name"))
        marker = page.findtext("NextMarker")
        if not marker:
            return


port, command, what = int(sys.argv[1]), sys.argv[2], sys.argv[3]
if command == "put":
    ask("PUT", port, "/media", {"restype": "container"})
    for name in sorted(os.listdir(what)):
        with open(os.path.join(what, name), "rb") as file:
            ask("PUT", port, f"/media/raw/{name}", {}, {"x-ms-blob-type": "BlockBlob"}, file.read())
else:
    for name in names(port, f"{what}/"):
        content = ask("GET", port, f"/media/{name}", {})
        print(hashlib.sha256(content).hexdigest(), name.removeprefix(f"{what}/"))
