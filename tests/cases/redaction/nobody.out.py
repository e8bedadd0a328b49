"""Nobody in particular: user@example.com, root@localhost, you@mail.test, git@github.com:ann/tool.git."""

TEMPLATES = "%s@python.org", "{user}@python.org", f"{TEMPLATES}@python.org", "$user@python.org"
CODE = "@pytest.fixture", "numpy@1.26", "weights @ inputs.T", "file@module.py", "matrix@inputs.reshape(1)"
URLS = "https://user:pass@python.org/", "postgres://postgres:postgres@db.python.org", "https://{user}:{key}@x.org"
PRIVATE = "127.0.0.1", "10.20.30.40", "192.168.1.17", "172.16.5.4", "0.0.0.0", "255.255.255.255", "fe80::1"
EXAMPLES = "192.0.2.17", "203.0.113.9", "198.51.100.77", "2001:db8::17", "1.2.3.4", "8.8.8.8", "224.0.0.251"
VERSIONS = "version 80.12.45.11", "Chrome/124.0.6367.91", "tool>=93.18.40.22", "1.3.6.1.4.1.311.21", "v93.18.40.22"
