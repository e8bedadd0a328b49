HOSTS = ["<IP_ADDRESS>", "http://<IP_ADDRESS>:8080/", "<IP_ADDRESS>"]
LOG = """
<IP_ADDRESS> - - "GET / HTTP/1.1"
client <IP_ADDRESS> closed
"""
