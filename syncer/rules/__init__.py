"""The rules that turn records into a status. Pure: a parameter named now is the only clock."""
