"""Amazon's token service over TLS: gives keys for the token in the file of argv[3] alone.

Arguments: certificate with key, file that gets the port, file of the token.
"""

import http.server
import ssl
import sys
import urllib.parse

KEYS = """<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
<AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>AKIAIDENTITY</AccessKeyId><SecretAccessKey>s</SecretAccessKey>
<SessionToken>session-AKIAIDENTITY</SessionToken><Expiration>2099-01-01T00:00:00Z</Expiration></Credentials>
</AssumeRoleWithWebIdentityResult></AssumeRoleWithWebIdentityResponse>"""


class Service(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        asked = dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(self.path).query))
        with open(sys.argv[3]) as file:
            expected = {
                "Action": "AssumeRoleWithWebIdentity",
                "RoleArn": "arn:aws:iam::123456789012:role/worker",
                "WebIdentityToken": file.read(),
            }
        known = all(asked.get(key) == value for key, value in expected.items())
        body = KEYS.encode() if known else b"<ErrorResponse/>"
        self.send_response(200 if known else 403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


server = http.server.HTTPServer(("127.0.0.1", 0), Service)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[1])
server.socket = context.wrap_socket(server.socket, server_side=True)
with open(sys.argv[2], "w") as file:
    file.write(str(server.server_address[1]))
server.serve_forever()
