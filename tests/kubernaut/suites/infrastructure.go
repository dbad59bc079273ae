package infrastructure

// ControllerManifest is their manifest of the controller.
func ControllerManifest(namespace, image string) string {
	return notificationControllerManifest(namespace, image, false)
}
