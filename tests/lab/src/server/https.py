# A provider of dynamic names that speaks dyndns2 by HTTPS: address, port, certificate, key.
import http.server, socket, ssl, sys

class Provider(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print(self.path, self.headers.get("Authorization"), flush=True)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"good\n")

class Server(http.server.ThreadingHTTPServer):
    address_family = socket.AF_INET6

address, port, certificate, key = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
server = Server((address, int(port)), Provider)
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
