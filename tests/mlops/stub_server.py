"""A server that answers like a forecaster and starts at once: `python stub_server.py VERSION PORT`."""

import json
import os
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

VERSION, PORT = sys.argv[1], int(sys.argv[2])
if VERSION == "broken":
    sys.exit("this one cannot load its model")


class Handler(BaseHTTPRequestHandler):
    """Two features in, their sum out."""

    def do_GET(self) -> None:
        inputs = [{"name": "features", "datatype": "FP32", "shape": [-1, 2]}]
        body = {"name": "sales-forecaster", "versions": [VERSION], "inputs": inputs}
        self._send(b"http_requests_total 1\n" if self.path == "/metrics" else json.dumps(body).encode())

    def do_POST(self) -> None:
        tensor = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["inputs"][0]
        rows, width = tensor["shape"]
        if width != 2 or rows > int(os.environ.get("WORKSHOP_FORECASTER_MAX_ROWS", 100)):
            self._send(b'{"error": "not like this"}', 400)
            return
        units = [sum(tensor["data"][row * 2 : row * 2 + 2]) for row in range(rows)]
        said = "another" if VERSION == "liar" else VERSION
        self._send(json.dumps({"model_version": said, "outputs": [{"name": "units", "data": units}]}).encode())

    def _send(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


HTTPServer(("127.0.0.1", PORT), Handler).serve_forever()
