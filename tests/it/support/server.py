#!/usr/bin/env python3
# Stands in for an Actual server: has its database open, answers /health and /info. Files beside it say how
# it fails; with "new" in such a file only the restored tree (one budget) makes it fail.
import glob, http.server, json, os, signal, socketserver, ssl, sys, time

here = os.path.dirname(os.path.realpath(__file__))
data = open(os.path.join(here, "data")).read().strip()
port = int(open(os.path.join(here, "port")).read())
is_new = len(glob.glob(data + "/user-files/*.blob")) == 1

def is_so(name):
    path = os.path.join(here, name)
    return os.path.exists(path) and ("new" not in open(path).read() or is_new)

database = open(data + "/server-files/account.sqlite", "rb")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("Checking if there are any migrations to run for direction \"up\"...", flush=True)
if is_so("dies"):
    print("\x1b[31mError: Missing migration file: 1900000000000-later.js\x1b[0m\n    at map (node:internal)", flush=True)
    sys.exit(1)

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = {"/health": {"status": "UP"}, "/info": {"build": {"name": "x", "version": "25.6.0"}}}.get(self.path)
        status = 503 if is_so("sick") or body is None else 200
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)
    def log_message(self, *_):
        pass

class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    allow_reuse_address = True
    daemon_threads = True

if is_so("deaf"):
    time.sleep(600)
server = Server(("127.0.0.1", port), Handler)
if os.path.exists(os.path.join(here, "tls.pem")):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(os.path.join(here, "tls.pem"))
    server.socket = context.wrap_socket(server.socket, server_side=True)
print(f"Listening on 127.0.0.1:{port}...", flush=True)
server.serve_forever()
