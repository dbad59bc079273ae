"""
The attempt log and its publication: the part whose correctness matters most.

`syncer` owns the types (`model`), the rules that turn a log into a status (`rules`), and the only clients
of Redis (`ledger`) and Kubernetes (`kube`). It knows nothing of channels or routing and never imports
`notifier`.
"""
