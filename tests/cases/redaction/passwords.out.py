DATABASE = "postgresql://service:<PASSWORD>@db.python.org:5432/app"
QUEUE = f"amqps://worker:<PASSWORD>@{HOST}/jobs"
