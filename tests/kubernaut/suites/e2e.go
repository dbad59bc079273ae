// The set-up of Kubernaut's end-to-end suite, in the place of its own: what tests/kubernaut/suites.py has
// started is used, and their own manifest of the controller is applied, with our image in it.
package notification

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"

	. "github.com/onsi/ginkgo/v2"
	. "github.com/onsi/gomega"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	notificationv1alpha1 "github.com/jordigilh/kubernaut/api/notification/v1alpha1"
	kubelog "github.com/jordigilh/kubernaut/pkg/log"
	"github.com/jordigilh/kubernaut/test/infrastructure"
)

func insteadSynchronizedBeforeSuite(func() []byte, func([]byte)) bool { return true }
func insteadSynchronizedAfterSuite(func(), func()) bool               { return true }
func insteadReportAfterEach(func(SpecReport)) bool                    { return true }

var _ = BeforeSuite(func() {
	ctx, cancel = context.WithCancel(context.Background())
	logger = kubelog.NewLogger(kubelog.Options{Development: true, ServiceName: "suite"})
	kubeconfigPath = os.Getenv("KUBECONFIG")
	controllerNamespace = os.Getenv("SUITE_NAMESPACE")
	e2eAuthToken = os.Getenv("SUITE_TOKEN")
	dataStorageNodePort = 30090
	e2eFileOutputDir = "/tmp/notifications"

	transport, err := infrastructure.NewTLSAwareTransport(kubeconfigPath)
	Expect(err).ToNot(HaveOccurred())
	http.DefaultTransport = transport
	cfg, err = clientcmd.BuildConfigFromFlags("", kubeconfigPath)
	Expect(err).ToNot(HaveOccurred())
	Expect(notificationv1alpha1.AddToScheme(scheme.Scheme)).To(Succeed())
	k8sClient, err = client.New(cfg, client.Options{Scheme: scheme.Scheme})
	Expect(err).ToNot(HaveOccurred())
	apiReader = k8sClient

	kubectl(os.Getenv("SUITE_BESIDES"), "apply", "-f", "-")
	kubectl(infrastructure.ControllerManifest(controllerNamespace, os.Getenv("SUITE_IMAGE")), "apply", "-f", "-")
	kubectl("", "rollout", "status", "deployment", "notification-controller", "--timeout=180s")
})

var _ = AfterSuite(func() { cancel() })

func kubectl(input string, words ...string) {
	command := exec.Command("kubectl", append([]string{"-n", controllerNamespace}, words...)...)
	command.Stdin = strings.NewReader(input)
	out, err := command.CombinedOutput()
	Expect(err).ToNot(HaveOccurred(), string(out))
}
