"""
A client for programs: creates a notification once, and reads its result.

`notifier.client.gateway` goes through a gateway and needs access to one of its sources.
`notifier.client.apiserver` goes straight to the API server and needs the right to create and get
notifications in a namespace. The same call gives the same object in both. Neither imports the controller.
"""
