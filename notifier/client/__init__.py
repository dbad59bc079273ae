"""
A client for programs: make a notification, once, and learn what became of it.

Through a gateway, with the right to one of its sources (`notifier.client.gateway`), or straight to the API
server, with the right to create and get notifications in a namespace (`notifier.client.apiserver`). Both
make the same object of the same call; who imports one of them imports nothing of the controller.
"""
